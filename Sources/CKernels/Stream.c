#include "CKernels.h"
#include "Vector.h"

// How fast memory is read: the sum of [count / 4] words.

KERNEL uint32_t feedback_read(const void *bytes, long count) {
    // Eight independent sums keep enough loads in flight; the prefetch reaches beyond what the hardware's own does.
    const char *p = bytes;
    v16i a = {}, b = {}, c = {}, d = {}, e = {}, f = {}, g = {}, h = {};
    for (long i = 0; i + 512 <= count; i += 512) {
        for (int line = 0; line < 512; line += 64) __builtin_prefetch(p + i + 8192 + line);
        const v16i *v = (const v16i *)(p + i);
        a += v[0], b += v[1], c += v[2], d += v[3], e += v[4], f += v[5], g += v[6], h += v[7];
    }
    a += b + c + d + e + f + g + h;
    uint32_t sum = 0;
    for (int i = 0; i < 16; i++) sum += (uint32_t)a[i];
    return sum;
}
