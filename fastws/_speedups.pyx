# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: embedsignature=True, binding=False, auto_pickle=False
"""The compiled core of fastws: one extension, made of the parts that are included below in the order of the data path.

    receive: listener -> opening/handshake -> frame -> message -> callbacks
    send:    connection (-> topics) -> frame -> outbox -> socket
"""

include "core/protocol_imports.pxi"
include "core/io_imports.pxi"

# The protocol half: bytes in, events and bytes out. It cannot name a socket.
include "core/kernels.pyx"      # SIMD for this processor; str from UTF-8 and back
include "core/handshake.pyx"    # the request head: found, bounded, judged; the 101
include "core/frame.pyx"        # frame headers
include "core/closing.pyx"      # close codes and bodies
include "core/message.pyx"      # frames into messages
include "core/deflate.pyx"      # messages into DEFLATE and out of it
include "core/speedups.pyx"     # the above for others
include "core/parser.pyx"       # and frames for them

# The I/O half: sockets, buffers, deadlines. It knows no WebSocket words.
include "core/buffer.pyx"       # memory that Python may look into
include "core/address.pyx"      # peers' addresses
include "core/outbox.pyx"       # bytes not taken yet
include "core/socket.pyx"       # read, cork, queue, pause, shut
include "core/listener.pyx"     # accept
include "core/roster.pyx"       # who is here
include "core/reactor.pyx"      # the poller on the running loop, turns, the one timer

# The connection joins the two, and alone calls the user's code.
include "core/route.pyx"        # what the application decided
include "core/limits.pyx"       # how many, and how often
include "core/payload.pyx"      # what is given to send, and frames made once
include "core/topics.pyx"       # who is subscribed to what
include "core/compressing.pyx"  # compression of a connection
include "core/opening.pyx"      # request -> 101 and `open`, or a refusal
include "core/callbacks.pyx"    # calling the user's code, in order
include "core/sending.pyx"      # messages into the outbox; slow peers
include "core/deadlines.pyx"    # what must come in time
include "core/connection.pyx"   # ws
include "core/service.pyx"      # what a server asks of its reactor
