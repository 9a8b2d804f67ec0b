// Dot products of groups (include/Decoding.h), and how a loop over groups becomes code for each format.
//
// DOT(sum, w, x): sixteen lanes of sums, plus sixteen groups of w times one group x. Sums of int8 are integers.
#pragma once

#include "Decoding.h"
#include "Vector.h"

#if defined(__x86_64__)
#include <immintrin.h>
// Features one by one: "arch=x86-64-v4" would have the compiler split vectors in two.
#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,fma,bmi,bmi2"
#define TARGET_FLOAT32 __attribute__((target(AVX512)))
#define TARGET_BFLOAT16 __attribute__((target(AVX512 ",avx512bf16")))
#define TARGET_INT8 __attribute__((target(AVX512 ",avx512vnni")))
#define FAST_BFLOAT16(sum, w, x)                                                                                       \
    (v16i)(_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(w), (__m512bh)_mm512_set1_epi32(x)))
#define FAST_INT8(sum, w, x) (v16i)(_mm512_dpbusd_epi32((__m512i)(sum), _mm512_set1_epi32(x), (__m512i)(w)))
#endif

static inline float as_float(int32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

#define DOT_FLOAT32(sum, w, x) (v16i)((v16)(sum) + (v16)(w) * as_float(x))
#define DOT_BFLOAT16(sum, w, x)                                                                                        \
    ({                                                                                                                 \
        const v16i sum_ = DOT_FLOAT32(sum, (w) & (int32_t)0xffff0000, (x) & (int32_t)0xffff0000);                      \
        DOT_FLOAT32(sum_, (w) << 16, (int32_t)((uint32_t)(x) << 16));                                                  \
    })
#define DOT_INT8(sum, w, x)                                                                                            \
    ((sum) + (((w) << 24) >> 24) * ((x) & 255) + (((w) << 16) >> 24) * (((x) >> 8) & 255)                              \
     + (((w) << 8) >> 24) * (((x) >> 16) & 255) + ((w) >> 24) * (((x) >> 24) & 255))

// The upper half of a float32's bits, rounded to the nearest, to even among equals; not a number stays not a number.
static inline uint16_t bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return x != x ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
