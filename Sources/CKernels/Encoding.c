#include "Groups.h"

// Rows of float32 as groups (include/Products.h), the same on every CPU: activations, weights, and a memory's keys and
// values.

KERNEL static void encode_bfloat16(const float *x, float scale, long count, uint16_t *to) {
    for (long i = 0; i < count; i++) to[i] = bfloat16(x[i] * scale);
}

KERNEL static void encode_int8(const float *x, long count, uint8_t *to, float *scale, float *offset) {
    v16 leasts = (v16){0} + x[0], mosts = leasts, sums = {0};
    long i = 0;
    for (; i + 16 <= count; i += 16) {
        const v16 some = LOAD(x + i);
        leasts = MIN16(some, leasts);
        mosts = MAX16(some, mosts);
        sums += some;
    }
    float least = -LARGEST(-leasts), most = LARGEST(mosts), sum = SUM16(sums);
    for (; i < count; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        sum += x[i];
    }
    const float step = (most - least) / 255, inverse = step > 0 && 1 / step < INFINITY ? 1 / step : 0;
    for (i = 0; i < count; i++) {
        // What is not a number becomes 0.
        const float scaled = (x[i] - least) * inverse + 0.5f, positive = scaled > 0 ? scaled : 0;
        to[i] = (uint8_t)(int32_t)(positive < 255.5f ? positive : 255.5f);
    }
    *scale = step;
    // Comparisons pass over what is not a number; the sum does not.
    *offset = least + 0 * sum;
}

void feedback_encode(feedback_format format, const float *x, long count, int32_t *groups, float *scale, float *offset) {
    if (format == FEEDBACK_FLOAT32) {
        memcpy(groups, x, (size_t)count * sizeof(float));
        return;
    }
    const long written = count / feedback_group_size(format);
    memset(groups + written, 0, (size_t)(feedback_groups(format, count) - written) * sizeof(int32_t));
    if (format != FEEDBACK_INT8)
        encode_bfloat16(x, format == FEEDBACK_FLOAT12 ? 0x1p64f : 1, count, (uint16_t *)groups);
    else
        encode_int8(x, count, (uint8_t *)groups, scale, offset);
}

// MARK: Weights

// The largest weight has the exponent 15, and the products, of inputs that are 2^64 times as large, are far from the least
// float32. What is too small for an exponent of 1 becomes that or 0, whichever is nearer.
void feedback_shrink(const float *w, long count, int32_t *groups, float *scale) {
    feedback_encode(FEEDBACK_BFLOAT16, w, count, groups, 0, 0);
    const long numbers = 2 * feedback_groups(FEEDBACK_FLOAT12, count);
    uint16_t *to = (uint16_t *)groups;
    for (long i = count; i < numbers; i++) to[i] = 0;
    int largest = 15;
    for (long i = 0; i < count; i++) largest = (to[i] >> 7 & 255) > largest ? to[i] >> 7 & 255 : largest;
    for (long i = 0; i < count; i++) {
        const int own = to[i] >> 7 & 255, exponent = own - (largest - 15), sign = to[i] & 0x8000;
        const int small = own > 0 && exponent == 0 ? sign | 1 << 7 : 0;
        to[i] = (uint16_t)(own > 0 && exponent > 0 ? sign | exponent << 7 | (to[i] & 127) : small);
    }
    *scale = largest == 255 ? NAN : ldexpf(1, largest - 15 - 64);
}

// The largest weight of an output becomes 127, or so much less that no sum of products with 0 … 255 can leave 32 bits. The
// scale is not finite where a weight is not.
void feedback_quantize(const float *w, long count, int32_t *groups, float *scale, float *sum) {
    float largest = 0, total = 0;
    for (long i = 0; i < count; i++) {
        const float size = fabsf(w[i]);
        largest = size > largest ? size : largest;
        total += size;
    }
    const float unit = largest / 127, safe = total * (255.0f / 2.0e9f);
    *scale = (unit > safe ? unit : safe) + 0 * total;
    const float inverse = *scale > 0 && isfinite(*scale) ? 1 / *scale : 0;
    groups[feedback_groups(FEEDBACK_INT8, count) - 1] = 0;
    int8_t *to = (int8_t *)groups;
    long integers = 0;
    for (long i = 0; i < count; i++) {
        to[i] = (int8_t)lrintf(inverse > 0 ? w[i] * inverse : 0);
        integers += to[i];
    }
    *sum = (float)integers;
}

// MARK: Keys and values

void feedback_append_keys_values(
    feedback_format format, const float *key, const float *value, long K, long slot, int32_t *keys, int32_t *values) {
    const long groups = feedback_groups(format, K);
    int32_t *lane = keys + (slot / 16) * groups * 16 + slot % 16;
    if (format == FEEDBACK_FLOAT32) {
        for (long k = 0; k < K; k++) memcpy(lane + k * 16, key + k, sizeof(float));
        memcpy(values + slot * feedback_padded(K), value, (size_t)K * sizeof(float));
    } else {
        uint16_t *to = (uint16_t *)lane, *pair = (uint16_t *)(values + (slot / 2) * feedback_padded(K)) + slot % 2;
        for (long k = 0; k < K; k++) {
            to[k / 2 * 32 + k % 2] = bfloat16(key[k]);
            pair[2 * k] = bfloat16(value[k]);
        }
    }
}
