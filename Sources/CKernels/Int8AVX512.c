#include "Groups.h"

// Products in int8 with AVX-512's dot products of four bytes.

#if defined(__x86_64__)
#define FORMAT FEEDBACK_INT8
typedef float operand;
#define DOT(sum, w, x) ((v16i)_mm512_dpbusd_epi32((__m512i)(sum), _mm512_set1_epi32(x), (__m512i)(w)))
#define STORE_OPERANDS STORE
#define TARGET __attribute__((target(AVX512 ",avx512vnni")))
#define KERNEL_TARGET TARGET

#define ROWS HIGHEST
#define VECTORS 2
#include "Product.h"

feedback_kernels int8_avx512_kernels(void) { return (feedback_kernels){.multiply = multiply}; }
#endif
