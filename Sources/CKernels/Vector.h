// The vector type that the kernels are written in, and how one source becomes code for several CPUs.
//
// `v16` is sixteen floats: one AVX-512 register, two of AVX2, four of NEON or SSE; the compiler splits it.
// `KERNEL` compiles a function once per x86-64 level and picks the best one when the program is loaded.
// Vectors live in local variables only: passing one to a function would tie it to a single level's calling
// convention, so what the kernels share is either a macro or an always-inlined function of pointers.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

// Not for the thread sanitizer, which would watch the choice before it has begun to.
#if defined(__x86_64__) && defined(__linux__) && !__has_feature(thread_sanitizer)
#define KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KERNEL
#endif

// At the start of a block: its sums may be taken in the order that suits vectors.
#define REORDER_SUMS _Pragma("clang fp reassociate(on)")

#define INLINE static inline __attribute__((always_inline))

typedef float v16 __attribute__((vector_size(64), aligned(4)));
typedef int32_t v16i __attribute__((vector_size(64), aligned(4)));

#define LOAD(p) (*(const v16 *)(p))
#define STORE(p, v) (*(v16 *)(p) = (v))
#define SELECT(mask, a, b) ((v16)(((mask) & (v16i)(a)) | (~(mask) & (v16i)(b))))
#define MAX16(a, b) SELECT((a) > (b), a, b)
#define MIN16(a, b) SELECT((a) < (b), a, b)

#define SUM16(v)                                                                                                       \
    ({                                                                                                                 \
        v16 a_ = (v);                                                                                                  \
        a_ += __builtin_shufflevector(a_, a_, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);                   \
        a_ += __builtin_shufflevector(a_, a_, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);                   \
        a_ += __builtin_shufflevector(a_, a_, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);                   \
        a_[0] + a_[1];                                                                                                 \
    })

#define LARGEST(v)                                                                                                     \
    ({                                                                                                                 \
        v16 m_ = (v), o_ = __builtin_shufflevector(m_, m_, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);      \
        m_ = MAX16(m_, o_);                                                                                            \
        o_ = __builtin_shufflevector(m_, m_, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);                    \
        m_ = MAX16(m_, o_);                                                                                            \
        o_ = __builtin_shufflevector(m_, m_, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);                    \
        m_ = MAX16(m_, o_);                                                                                            \
        m_[0] > m_[1] ? m_[0] : m_[1];                                                                                 \
    })

// e^x for x ≤ 88, 0 below −87; relative error below 2e-7.
// x = n·ln 2 + r with |r| ≤ ½ ln 2 (Cody and Waite's two-part ln 2); e^r by a polynomial of degree 6; 2ⁿ by its
// exponent bits.
#define EXP16(x)                                                                                                       \
    ({                                                                                                                 \
        v16 x_ = (x);                                                                                                  \
        const v16 magic_ = (v16){} + 12582912.0f;                                                                      \
        const v16 k_ = x_ * 1.44269504f + magic_;                                                                      \
        const v16 n_ = k_ - magic_;                                                                                    \
        const v16 r_ = (x_ - n_ * 0.693359375f) + n_ * 2.12194440e-4f;                                                 \
        v16 y_ = r_ * 1.38888889e-3f + 8.33333333e-3f;                                                                 \
        y_ = y_ * r_ + 4.16666667e-2f;                                                                                 \
        y_ = y_ * r_ + 1.66666667e-1f;                                                                                 \
        y_ = y_ * r_ + 0.5f;                                                                                           \
        y_ = y_ * r_ + 1.0f;                                                                                           \
        y_ = y_ * r_ + 1.0f;                                                                                           \
        const v16 power_ = (v16)(((v16i)k_ << 23) + 0x3f800000);                                                       \
        SELECT(x_ > -87.0f, y_ * power_, (v16){});                                                                     \
    })
