// Dot products of groups (include/Products.h), and how a loop over groups becomes code for each format.
//
// DOT(sum, w, x): sixteen lanes of sums, plus sixteen groups of w times one group x. Sums of int8 are integers.
#pragma once

#include "Products.h"
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

#define TARGET_AVX2 __attribute__((target("avx2,fma,bmi,bmi2")))
// AVX2 multiplies 16 bits by 16: the even bytes of a group, sign-extended, by the even ones of x; then the odd ones.
typedef struct {
    __m256i half[2];
} halves;
#define AVX2_INT8(sum, w, x)                                                                                           \
    ({                                                                                                                 \
        const v16i sum_ = (sum), w_ = (w);                                                                             \
        const __m256i even_ = _mm256_set1_epi32((x) & 0x00ff00ff), odd_ = _mm256_set1_epi32((x) >> 8 & 0x00ff00ff);    \
        halves s_, h_;                                                                                                 \
        memcpy(&s_, &sum_, sizeof s_), memcpy(&h_, &w_, sizeof h_);                                                    \
        for (int i_ = 0; i_ < 2; i_++) {                                                                               \
            const __m256i first_ = _mm256_srai_epi16(_mm256_slli_epi16(h_.half[i_], 8), 8);                            \
            const __m256i second_ = _mm256_srai_epi16(h_.half[i_], 8);                                                 \
            s_.half[i_] = _mm256_add_epi32(s_.half[i_], _mm256_madd_epi16(first_, even_));                             \
            s_.half[i_] = _mm256_add_epi32(s_.half[i_], _mm256_madd_epi16(second_, odd_));                             \
        }                                                                                                              \
        v16i result_;                                                                                                  \
        memcpy(&result_, &s_, sizeof s_);                                                                              \
        result_;                                                                                                       \
    })
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

// Sixteen numbers as eight groups.
#define STORE_ROUNDED(p, v)                                                                                            \
    for (int lane_ = 0; lane_ < 16; lane_++) ((uint16_t *)(p))[lane_] = bfloat16((v)[lane_])
