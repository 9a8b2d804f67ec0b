#include "BFloat16.h"
#include "CKernels.h"

#define REORDER_SUMS _Pragma("clang fp reassociate(on)")
#define VARIANT NARROW
#define NAME(function) function##_bfloat16
typedef __bf16 operand;
#include "OperandRows.h"

int feedback_has_bfloat16(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512bf16");
#else
    return 0;
#endif
}

NARROW void feedback_narrow_bfloat16(const float *x, long count, void *out) {
    __bf16 *y = (__bf16 *)out;
    for (long i = 0; i < count; i++) y[i] = (__bf16)x[i];
}
