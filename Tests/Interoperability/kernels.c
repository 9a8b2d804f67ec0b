// What every kernel that runs on any CPU makes of random numbers, over sizes that fit no vector: written as float32 to standard
// output, for two machines to be compared (aarch64.sh).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CKernels.h"

static uint64_t state = 1;
static float number(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) * 0x1p-31f;
}

// Numbers with a margin of zeros on both sides, that kernels may read.
static void *room(long count) {
    char *bytes = aligned_alloc(64, (size_t)((count * 4 + 511) & ~63L));
    memset(bytes, 0, (size_t)((count * 4 + 511) & ~63L));
    return bytes + 192;
}
static float *numbers(long count) {
    float *x = room(count);
    for (long i = 0; i < count; i++) x[i] = number();
    return x;
}
static void tell(const float *x, long count) { fwrite(x, 4, (size_t)count, stdout); }
static void tell_number(double x) {
    const float short_x = (float)x;
    tell(&short_x, 1);
}

static void rows(const feedback_kernels *k, long n, long d) {
    float *x = numbers(n * d), *dy = numbers(n * d), *y = room(n * d), *r = room(n), *dx = numbers(n * d);
    k->normalize(x, n, d, y, r);
    tell(y, n * d), tell(r, n);
    k->normalizeBackward(dy, y, r, n, d, dx);
    tell(dx, n * d);
    k->rectifierBackward(x, n * d, dy);
    tell(dy, n * d);
    k->drop(dy, d, 77, 1u << 30, 4.0f / 3);
    tell(dy, d);
    float *sums = numbers(d), *more = numbers(n * d);
    k->addColumnSums(x, n, d, d, sums);
    tell(sums, d);
    const float *layers[3] = {x, dx, more}, a[3] = {0.2f, 0.5f, 0.3f};
    feedback_weighted_sum(layers, a, 3, n * d, y);
    tell(y, n * d);
    tell_number(feedback_weighted_sum_backward(y, x, 0.3f, n * d, dx));
    feedback_add(x, n * d, dx), feedback_add_scaled(more, 0.7f, n * d, dx);
    tell(dx, n * d);
    tell_number(feedback_sum_of_squares(x, n * d));
    int32_t *targets = room(n);
    for (long i = 0; i < n; i++) targets[i] = i % 4 == 3 ? -1 : (int32_t)(i % d);
    long correct = 0;
    tell_number(feedback_cross_entropy(x, targets, n, d, 0.25f, y, &correct));
    tell_number((double)correct), tell(y, n * d);
    float *m = numbers(n * d), *v = room(n * d);
    feedback_adam(x, dy, m, v, n * d, 0.5f, 0.1f, 0.99f, 0.01f, 0.003f, 10, 1e-8f, 0.999f);
    tell(x, n * d), tell(m, n * d), tell(v, n * d);
}

static void attention(const feedback_kernels *k, long K, long slots, long start) {
    const long P = feedback_padded(K), S = feedback_padded(slots);
    float *keysOverSlots = room(S * K), *keysOverHead = room(S * P), *valuesOverSlots = room(S * K);
    float *valuesOverHead = room(S * P);
    for (long j = 0; j < slots; j++) {
        k->append(numbers(K), K, j, keysOverSlots, keysOverHead);
        k->append(numbers(K), K, j, valuesOverSlots, valuesOverHead);
    }
    float *q = numbers(2 * K), *positions = numbers(K * (S + 32)), *bias = numbers(S + 32),
          *scores = room(2 * (S + 32));
    k->scorePositions(q, K, 2, positions, S + 32, bias, start, slots, K, scores + 16, S + 32);
    tell(scores + 16 + start, slots - start);
    for (int drops = 0; drops < 2; drops++) {
        float *p = room(S + 32), *out = room(P), *ds = room(S + 32), *dq = room(P), *u = room(S * P);
        for (long j = 0; j < slots; j++)
            for (long i = 0; i < K; i++) u[j * P + i] = number();
        const float scale = drops ? 4.0f / 3 : 1;
        k->attend(
            q, keysOverSlots, valuesOverHead, scores + 16, start, slots, K, p + 16, out, 5, drops ? 1u << 30 : 0,
            scale);
        tell(p + 16 + start, slots - start), tell(out, K);
        k->attendBackward(
            numbers(K), out, p + 16, keysOverHead, valuesOverSlots, u, start, slots, K, ds + 16, dq, scale);
        tell(ds + 16 + start, slots - start), tell(dq, K);
    }
    const long steps = 5, reach = slots < 7 ? slots : 7;
    float *a = room(steps * (S + 64)), *b = numbers(steps * K), *dst = room(S * P), *sums = room(reach);
    for (long t = 0; t < steps; t++)
        for (long j = 0; j < slots - steps + t; j++) a[t * (S + 64) + 32 + j] = number();
    if (slots <= steps) return;
    k->gatherSlots(a + 32, S + 64, b, K, 0, steps, 0, slots, slots - steps, reach, K, dst);
    tell(dst, S * P);
    float *far = room(reach * P);
    k->gatherOffsets(a + 32, S + 64, b, K, 0, steps, slots - steps, reach, K, far);
    k->sumOffsets(a + 32, S + 64, 0, steps, slots - steps, reach, sums);
    tell(far, reach * P), tell(sums, reach);
}

static void product(feedback_format format, long rows, long inputs, long outputs) {
    const feedback_kernels k = feedback_kernels_of(format, 1);
    const long groups = feedback_groups(format, inputs), columns = (outputs + 31) & ~31L;
    float *w = numbers(outputs * inputs), *folded = room(outputs * inputs), *bias = room(columns);
    float *gain = numbers(inputs), *shift = numbers(inputs), *b = numbers(outputs);
    feedback_fold(w, gain, shift, b, 0.5f, outputs, inputs, folded, bias);
    tell(folded, outputs * inputs), tell(bias, outputs);
    int32_t *encoded = room(outputs * groups), *panel = room(32 * groups), *x = room(rows * groups);
    int32_t *weights = room(columns / 32 * feedback_panel_width(format) * groups);
    float *scales = room(columns), *sums = room(columns), *xScales = room(rows), *xOffsets = room(rows);
    for (long o = 0; o < outputs; o++)
        if (format == FEEDBACK_INT8)
            feedback_quantize(folded + o * inputs, inputs, encoded + o * groups, scales + o, sums + o);
        else
            feedback_encode(format, folded + o * inputs, inputs, encoded + o * groups, 0, 0);
    feedback_pack_columns(format, encoded, groups * feedback_group_size(format), outputs, 1, weights, panel);
    for (long r = 0; r < rows; r++)
        feedback_encode(format, numbers(inputs), inputs, x + r * groups, xScales + r, xOffsets + r);
    const feedback_panels panels = {format, groups, weights, bias, format == FEEDBACK_INT8 ? scales : 0, sums};
    float *y = numbers(rows * outputs);
    for (int finish = FEEDBACK_STORE; finish <= FEEDBACK_ADD; finish++) {
        const feedback_product job = {x,    groups * 4, xScales,     xOffsets,
                                      rows, 0,          outputs,     (feedback_finish)finish,
                                      0,    y,          outputs * 4, room(feedback_product_room(groups))};
        k.multiply(&panels, &job);
        tell(y, rows * outputs);
    }
    float *dgain = numbers(inputs), *dshift = numbers(inputs);
    feedback_unfold(w, gain, shift, 0.5f, outputs, inputs, folded, b, outputs, dgain, dshift);
    tell(folded, outputs * inputs), tell(dgain, inputs), tell(dshift, inputs);
}

static void decoding(feedback_format format, long K, long slots, long start) {
    const feedback_kernels k = feedback_kernels_of(format, 1);
    const long groups = feedback_groups(format, K), S = feedback_padded(slots), stride = S + 32;
    int32_t *keys = room(S * groups), *values = room(feedback_groups(format, S) * feedback_padded(K));
    for (long j = 0; j < slots; j++) feedback_append_keys_values(format, numbers(K), numbers(K), K, j, keys, values);
    int32_t *positions = room(groups * stride), *one = room(groups);
    for (long c = 0; c < slots; c++) {
        feedback_encode(format, numbers(K), K, one, 0, 0);
        for (long g = 0; g < groups; g++) positions[g * stride + 16 + c] = one[g];
    }
    float *bias = numbers(stride), *out = room(feedback_padded(K));
    k.attendDecoding(
        numbers(K), keys, values, 0, positions + 16, stride, bias + 16, start, slots, K,
        room(feedback_padded(K) + 2 * (S + 32)), out);
    tell(out, K);
}

int main(void) {
    const feedback_kernels float32 = feedback_kernels_of(FEEDBACK_FLOAT32, 1);
    const long widths[] = {1, 6, 16, 17, 24, 33, 64, 80, 128}, lengths[] = {1, 2, 5, 15, 16, 17, 37, 64, 100, 131};
    for (int i = 0; i < 9; i++) {
        for (long n = 1; n <= 13; n += 4) rows(&float32, n, widths[i]);
        for (int j = 0; j < 10; j++) {
            attention(&float32, widths[i], lengths[j], 0);
            attention(&float32, widths[i], lengths[j], lengths[j] / 2);
            for (int format = 0; format < 2; format++) {
                const feedback_format kind = format ? FEEDBACK_BFLOAT16 : FEEDBACK_FLOAT32;
                decoding(kind, widths[i], lengths[j], 0), decoding(kind, widths[i], lengths[j], lengths[j] / 2);
            }
        }
        for (int j = 0; j < 9; j++)
            for (long n = 1; n <= 21; n += 5) {
                product(FEEDBACK_FLOAT32, n, widths[i], widths[j]);
                product(FEEDBACK_BFLOAT16, n, widths[i], widths[j]);
                product(FEEDBACK_INT8, n, widths[i], widths[j]);
            }
    }
    return 0;
}
