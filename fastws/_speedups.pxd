# fastws._speedups, declared: a header for each half, and one for what joins them. The parts that define what stands
# there are listed in _speedups.pyx.

include "core/protocol/protocol.pxi"
include "core/io/io.pxi"
include "core/connection/connection.pxi"
