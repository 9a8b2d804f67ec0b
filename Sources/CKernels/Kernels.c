#include "Groups.h"

// Which kernels a CPU takes.

#if defined(__x86_64__)
static bool has_avx512(void) { return __builtin_cpu_supports("x86-64-v4"); }
static bool has_vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

bool feedback_has_fast(feedback_format format) {
    switch (format) {
    case FEEDBACK_FLOAT32: return has_avx512();
    case FEEDBACK_BFLOAT16:
    case FEEDBACK_FLOAT12: return has_avx512() && __builtin_cpu_supports("avx512bf16");
    case FEEDBACK_INT8: return has_vnni() || __builtin_cpu_supports("avx2");
    }
}

bool feedback_prefers_own_products(feedback_format format) {
    // Where there are instructions for whole tiles, oneDNN has kernels that use them.
    return feedback_has_fast(format) && !__builtin_cpu_supports("amx-bf16");
}

static feedback_kernels fast_kernels(feedback_format format) {
    switch (format) {
    case FEEDBACK_FLOAT32: return float32_avx512_kernels();
    case FEEDBACK_BFLOAT16: return bfloat16_avx512_kernels();
    case FEEDBACK_FLOAT12: return float12_avx512_kernels();
    case FEEDBACK_INT8: return has_vnni() ? int8_avx512_kernels() : int8_avx2_kernels();
    }
}
#else
bool feedback_has_fast(feedback_format format) { return false; }
bool feedback_prefers_own_products(feedback_format format) { return false; }
static feedback_kernels fast_kernels(feedback_format format) { return (feedback_kernels){0}; }
#endif

feedback_kernels feedback_kernels_of(feedback_format format, bool portable) {
    if (!portable && feedback_has_fast(format)) return fast_kernels(format);
    switch (format) {
    case FEEDBACK_FLOAT32: return float32_kernels();
    case FEEDBACK_BFLOAT16: return bfloat16_kernels();
    case FEEDBACK_INT8: return int8_kernels();
    case FEEDBACK_FLOAT12: return (feedback_kernels){0};
    }
}
