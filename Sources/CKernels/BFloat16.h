// bfloat16 for the kernels that take it: the upper half of a float32. Sums are float32 throughout.
//
// `NARROW` compiles a function for CPUs that multiply pairs of bfloat16 in one instruction; call such a function only
// where `feedback_has_bfloat16()`. On other architectures the same source compiles to plain vector code.
// A pair is two neighbouring numbers of the summed dimension: sixteen pairs fill a vector, and
// `DOT(sum, a, b)` adds a.first · b.first + a.second · b.second to each of its sixteen sums.
#pragma once

#include "Vector.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define NARROW __attribute__((target("arch=x86-64-v4,avx512bf16")))
#else
#define NARROW
#endif

#define NARROW_INLINE static inline __attribute__((always_inline)) NARROW

typedef __bf16 b16 __attribute__((vector_size(32), aligned(2)));
typedef uint16_t u16x16 __attribute__((vector_size(32), aligned(2)));
typedef uint32_t u32x16 __attribute__((vector_size(64), aligned(4)));

#if defined(__x86_64__)
#define DOT(sum, a, b) ((v16)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(a), (__m512bh)(b)))
#define NARROWED(v) ((u16x16)_mm256_castps_si256((__m256)_mm512_cvtneps_pbh((__m512)(v))))
#else
#define DOT(sum, a, b)                                                                                                 \
    ({                                                                                                                 \
        const u32x16 a_ = (a), b_ = (b);                                                                               \
        (sum) + (v16)(a_ << 16) * (v16)(b_ << 16) + (v16)(a_ & 0xffff0000u) * (v16)(b_ & 0xffff0000u);                 \
    })
#define NARROWED(v) ((u16x16) __builtin_convertvector((v), b16))
#endif

#define LOAD_PAIRS(p) (*(const u32x16 *)(p))
#define STORE_PAIRS(p, v) (*(u32x16 *)(p) = (v))
#define STORE_NARROW(p, v) (*(u16x16 *)(p) = NARROWED(v))
/// Sixteen numbers, each alone in the lower half of its lane.
#define LOWER(p) __builtin_convertvector(*(const u16x16 *)(p), u32x16)
#define WIDENED(p) ((v16)(LOWER(p) << 16))
/// One pair in every lane.
#define SPREAD(p) ((u32x16){} + *(const pair *)(p))
typedef uint32_t pair __attribute__((aligned(2), may_alias));
