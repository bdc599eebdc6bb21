# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=clinic, binding=False, auto_pickle=False
"""The compiled core of fastws: one extension, made of the parts that are included below, layer by layer.

    receive: listener -> wire -> socket -> opening/handshake -> message/frame -> callbacks
    send:    sending or topics -> frame -> cork (socket) or outbox -> wire
"""

include "core/protocol/imports.pxi"
include "core/io/imports.pxi"
include "core/connection/imports.pxi"

# The protocol half: bytes in, events and bytes out. It cannot name a socket.
include "core/protocol/kernels.pyx"         # SIMD for this processor; str from UTF-8 and back
include "core/protocol/handshake.pyx"       # the request head: found, bounded, judged; the 101
include "core/protocol/frame.pyx"           # frame headers
include "core/protocol/closing.pyx"         # close codes and bodies
include "core/protocol/message.pyx"         # frames into messages
include "core/protocol/deflate.pyx"         # messages into DEFLATE and out of it
include "core/protocol/speedups.pyx"        # for others: apply_mask, is_utf8, decode, encode
include "core/protocol/parser.pyx"          # for others: FrameParser, serialize

# The I/O half: sockets, buffers, deadlines. It knows no WebSocket words.
include "core/io/buffer.pyx"                # memory that Python may look into
include "core/io/address.pyx"               # peers' addresses
include "core/io/outbox.pyx"                # bytes that the kernel has not taken yet
include "core/io/wire.pyx"                  # how bytes come and go: a descriptor, or a Wire
include "core/io/pushed.pyx"                # a Wire over an asyncio.Transport
include "core/io/socket.pyx"                # read, cork, queue, pause, shut
include "core/io/listener.pyx"              # accept
include "core/io/crowd.pyx"                 # who is here: the sockets of one server
include "core/io/reactor.pyx"               # the poller on the running loop, turns, the one timer

# The connection joins the two, and alone calls the application.
include "core/connection/route.pyx"         # what the application decided
include "core/connection/limits.pyx"        # how many connections, how many messages a second
include "core/connection/payload.pyx"       # what is given to send
include "core/connection/prepared.pyx"      # frames made once for many
include "core/connection/topics.pyx"        # who is subscribed to what, on one server
include "core/connection/hub.pyx"           # topics over all servers; those that watch them
include "core/connection/compressing.pyx"   # compression of a connection
include "core/connection/opening.pyx"       # request -> 101 and `open`, or a refusal
include "core/connection/ending.pyx"        # how it ends: the table of ending.h, carried out
include "core/connection/callbacks.pyx"     # calling the application, in order
include "core/connection/sending.pyx"       # messages into the cork or the outbox; slow peers
include "core/connection/deadlines.pyx"     # what must come in time
include "core/connection/websocket.pyx"     # ws
include "core/connection/service.pyx"       # what the connections of a server share
