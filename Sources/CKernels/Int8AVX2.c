#include "Groups.h"

// Products in int8 with AVX2, which multiplies 16 bits by 16: the even bytes of a group, sign-extended, by the even ones
// of x; then the odd ones.

#if defined(__x86_64__)
#define FORMAT FEEDBACK_INT8
typedef float operand;
typedef struct {
    __m256i half[2];
} halves;
#define DOT(sum, w, x)                                                                                                 \
    ({                                                                                                                 \
        const v16i sum_ = (sum), w_ = (w);                                                                             \
        const __m256i even_ = _mm256_set1_epi32(0x00ff00ff & (x)), odd_ = _mm256_set1_epi32((x) >> 8 & 0x00ff00ff);    \
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
#define STORE_OPERANDS STORE
#define TARGET __attribute__((target("avx2,fma,bmi,bmi2")))
#define KERNEL_TARGET TARGET

#define ROWS 4
#define VECTORS 1
#include "Product.h"

feedback_kernels int8_avx2_kernels(void) { return (feedback_kernels){.multiply = multiply}; }
#endif
