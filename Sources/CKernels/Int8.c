#include "Groups.h"

// Products in int8 for every CPU: the sums of integers are exact, so all CPUs agree.

#define FORMAT FEEDBACK_INT8
typedef float operand;
#define DOT(sum, w, x)                                                                                                 \
    ((sum) + (((w) << 24) >> 24) * (255 & (x)) + (((w) << 16) >> 24) * (((x) >> 8) & 255)                              \
     + (((w) << 8) >> 24) * (((x) >> 16) & 255) + ((w) >> 24) * (((x) >> 24) & 255))
#define STORE_OPERANDS STORE
#define KERNEL_TARGET KERNEL
#define TARGET

#define ROWS 4
#define VECTORS 1
#include "Product.h"

feedback_kernels int8_kernels(void) { return (feedback_kernels){.multiply = multiply}; }
