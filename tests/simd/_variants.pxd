include "_protocol.pxd"
