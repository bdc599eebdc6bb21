include "io.pxi"
