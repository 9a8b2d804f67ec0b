#include "Groups.h"

// Products and decoding in float32 with AVX-512's registers; the rest is as without.

#if defined(__x86_64__)
#define FORMAT FEEDBACK_FLOAT32
#define GROUP 1
typedef float operand;
#define DOT(sum, w, x) DOT_FLOAT32(sum, w, x)
#define STORE_OPERANDS STORE
#define TARGET __attribute__((target(AVX512)))
#define KERNEL_TARGET TARGET

#define ROWS HIGHEST
#define VECTORS 2

#include "Softmax.h"

#include "AttentionDecoding.h"
#include "Product.h"

feedback_kernels float32_avx512_kernels(void) {
    feedback_kernels kernels = float32_kernels();
    kernels.multiply = multiply;
    kernels.attendDecoding = attend_decoding;
    return kernels;
}
#endif
