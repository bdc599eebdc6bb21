/* The kernels of one variant, which has defined its vectors, and what it calls itself. */

#include "parts.h"
#include "unmask.h"
#include "utf8.h"
#include "decode.h"
#include "encode.h"

static const simd_kernels NAME(kernels) = {
    VARIANT, NAME(unmask), NAME(check), NAME(unmask_check), NAME(decode), NAME(encoded_size), NAME(encode),
};

#undef VARIANT
#undef NAME
#undef TARGET
#undef INLINE
#undef V
#undef V_SIZE
