#include "Groups.h"

// Products and decoding in bfloat16 for every CPU: the upper and the lower half of a group, each as a float32.

#define FORMAT FEEDBACK_BFLOAT16
#define GROUP 2
typedef half operand;
#define DOT(sum, w, x)                                                                                                 \
    DOT_FLOAT32(                                                                                                       \
        DOT_FLOAT32(sum, (w) & (int32_t)0xffff0000, (x) & (int32_t)0xffff0000), (w) << 16,                             \
        (int32_t)((uint32_t)(x) << 16))
#define STORE_OPERANDS(p, v)                                                                                           \
    for (int lane_ = 0; lane_ < 16; lane_++) ((operand *)(p))[lane_] = bfloat16((v)[lane_])
#define KERNEL_TARGET KERNEL
#define TARGET

#define ROWS 4
#define VECTORS 1

#include "Softmax.h"

#include "AttentionDecoding.h"
#include "Product.h"

feedback_kernels bfloat16_kernels(void) {
    return (feedback_kernels){.multiply = multiply, .attendDecoding = attend_decoding};
}
