include "protocol.pxi"
