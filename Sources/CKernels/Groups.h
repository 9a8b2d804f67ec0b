// Groups (include/Products.h), and what a file of a format defines before it includes kernels:
//
//   FORMAT, GROUP              the format, and how many numbers a group has
//   operand                    its type
//   DOT(sum, w, x)             sixteen sums, float32 or of int8 integers, plus sixteen groups of w times one group x
//   STORE_OPERANDS(p, v)       sixteen numbers as operands
//   KERNEL_TARGET, TARGET      attributes of a kernel, and of what is inlined into it
//
// One file has one kind of CPU, so its kernels are static, and a table of them is all that others see (Kernels.c).
#pragma once

#include "CKernels.h"
#include "Vector.h"

#if defined(__x86_64__)
#include <immintrin.h>
// Features one by one: "arch=x86-64-v4" would have the compiler split vectors in two.
#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,fma,bmi,bmi2"
#endif

// A group of operands may begin at any of them.
typedef int32_t group __attribute__((aligned(2), may_alias));
typedef uint16_t half __attribute__((may_alias));
#define GROUPS(p) (*(const v16i *)(p))

static inline float as_float(int32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
#define DOT_FLOAT32(sum, w, x) ((__typeof__(sum))((v16)(sum) + as_float(x) * (v16)(w)))

// The upper half of a float32's bits, rounded to the nearest, to even among equals; not a number stays not a number.
static inline uint16_t bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return x != x ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The tables, by format and CPU.
feedback_kernels float32_kernels(void), float32_avx512_kernels(void);
feedback_kernels bfloat16_kernels(void), bfloat16_avx512_kernels(void), float12_avx512_kernels(void);
feedback_kernels int8_kernels(void), int8_avx2_kernels(void), int8_avx512_kernels(void);
