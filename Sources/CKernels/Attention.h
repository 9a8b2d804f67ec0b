// Attention in training, for one head of one row unless said, forward and backward: included once a format.
//
//   score_positions     q [rows][K], positions [groups over K][stride]      → scores [rows][slots]
//   attend              q [K], keys over slots, values over the head        → p [slots], out [K]
//   attend_backward     dout [K], values over slots, keys over the head     → ds [slots], dq [K]
//   sum_offsets         a [steps][slots]                                    → sums [offsets]
//
// Layouts: CKernels.h; equations: FeedbackEngine/Operations/Attention.swift. Sums over the head run over blocks of 16
// slots, sums over slots over vectors of the head. bfloat16's instruction takes long, so it has two sums of each.

enum { SUMS_OVER_HEAD = GROUP };

// scores[r, lane] = bias + Σ_k q_rk · u_k, for `rows` rows and 16 slots.
INLINE TARGET void score_rows(
    const operand *q, long qStride, const group *positions, long positionStride, const float *bias, long K,
    float *scores, long stride, const int rows) {
    v16 sum[6];
    for (int r = 0; r < rows; r++) sum[r] = LOAD(bias);
    for (long g = 0; g < K / GROUP; g++) {
        const v16i position = GROUPS(positions + g * positionStride);
        for (int r = 0; r < rows; r++) sum[r] = DOT(sum[r], position, *(const group *)(q + r * qStride + GROUP * g));
    }
    // What follows an odd K belongs to others.
    if (K % GROUP) {
        const v16i position = GROUPS(positions + K / GROUP * positionStride);
        for (int r = 0; r < rows; r++) sum[r] = DOT(sum[r], position, *(const half *)(q + r * qStride + K - 1));
    }
    for (int r = 0; r < rows; r++) STORE(scores + r * stride, sum[r]);
}

KERNEL_TARGET static void score_positions(
    const void *q, long qStride, long rows, const void *positions, long positionStride, const float *positionBias,
    long start, long end, long K, float *scores, long stride) {
#define SCORE(count)                                                                                                   \
    score_rows(                                                                                                        \
        (const operand *)q + r * qStride, qStride, (const group *)positions + j, positionStride, positionBias + j, K,  \
        scores + r * stride + j, stride, count)
    for (long j = start & ~15L; j < end; j += 16) {
        // Six sums a vector wide fit AVX2's registers.
        long r = 0;
        for (; r + 6 <= rows; r += 6) SCORE(6);
        for (; r + 4 <= rows; r += 4) SCORE(4);
        for (; r + 2 <= rows; r += 2) SCORE(2);
        for (; r < rows; r++) SCORE(1);
    }
#undef SCORE
}

// x, or a copy that ends in a zero where the last group is not whole.
INLINE const operand *whole_groups(const void *x, long K, operand *copy) {
    if (K % GROUP == 0) return (const operand *)x;
    copy[K] = 0;
    return (const operand *)memcpy(copy, x, sizeof(operand) * (size_t)K);
}

// s[16 b + lane] = scores + Σ_k q_k · keys, for `blocks` blocks of 16 slots from slot j.
INLINE TARGET void score_blocks(
    const operand *q, const group *keys, const float *scores, long j, long groups, float *s, const int blocks) {
    v16 sum[SUMS_OVER_HEAD][4] = {{{0}}};
    for (int b = 0; b < blocks; b++) sum[0][b] = LOAD(scores + j + 16 * b);
    const group *key = keys + j * groups;
    long g = 0;
    for (; g + SUMS_OVER_HEAD <= groups; g += SUMS_OVER_HEAD)
        for (int b = 0; b < blocks; b++)
            for (int i = 0; i < SUMS_OVER_HEAD; i++)
                sum[i][b] = DOT(
                    sum[i][b], GROUPS(key + (b * groups + g + i) * 16), *(const group *)(q + GROUP * (g + i)));
    for (; g < groups; g++)
        for (int b = 0; b < blocks; b++)
            sum[0][b] = DOT(sum[0][b], GROUPS(key + (b * groups + g) * 16), *(const group *)(q + GROUP * g));
    for (int b = 0; b < blocks; b++)
        STORE(s + 16 * b, SUMS_OVER_HEAD == 1 ? sum[0][b] : sum[0][b] + sum[SUMS_OVER_HEAD - 1][b]);
}

// out[16 c + lane] = Σ_j a_j · (x_j + y_j), or a_j · x_j where not `both`, over the groups [low, high) of slots, for
// `columns` vectors of the head.
INLINE TARGET void sum_vectors(
    const operand *a, const group *x, const group *y, const int both, long low, long high, long stride, operand *out,
    const int columns) {
#define ADDED(sum, g)                                                                                                  \
    (both ? DOT_BOTH(sum, GROUPS(x + AT(g)), GROUPS(y + AT(g)), *(const group *)(a + GROUP * (g)))                     \
          : DOT(sum, GROUPS(x + AT(g)), *(const group *)(a + GROUP * (g))))
#define AT(g) (stride * (g) + 16 * c)
    v16 even[4] = {{0}}, odd[4] = {{0}};
    long g = low;
    for (; g + 1 < high; g += 2) {
        for (int c = 0; c < columns; c++) {
            even[c] = ADDED(even[c], g);
            odd[c] = ADDED(odd[c], g + 1);
        }
    }
    if (g < high)
        for (int c = 0; c < columns; c++) even[c] = ADDED(even[c], g);
    for (int c = 0; c < columns; c++) STORE_OPERANDS(out + 16 * c, even[c] + odd[c]);
#undef AT
#undef ADDED
}

// The same over all K columns; the last vector may be partial, and what lies behind it is left alone. Pairs of slots are
// read two by two: `a` is zero beyond.
INLINE TARGET void sum_over_slots(
    const operand *a, const void *x, const void *y, const int both, long start, long end, long K, operand *out) {
    const long some = GROUP == 1 ? 1 : 4, low = (start & -some) / GROUP, high = ((end + some - 1) & -some) / GROUP;
    const long stride = feedback_padded(K);
    const group *own = (const group *)x, *other = (const group *)y;
    long k = 0;
    for (; k + 64 <= K; k += 64) sum_vectors(a, own + k, other + k, both, low, high, stride, out + k, 4);
    for (; k + 32 <= K; k += 32) sum_vectors(a, own + k, other + k, both, low, high, stride, out + k, 2);
    for (; k < K; k += 16) {
        operand last[16];
        sum_vectors(a, own + k, other + k, both, low, high, stride, last, 1);
        memcpy(out + k, last, sizeof(operand) * (size_t)(K - k < 16 ? K - k : 16));
    }
}

KERNEL_TARGET static void attend(
    const void *query, const void *keys, const void *values, const float *scores, long start, long end, long K,
    void *probabilities, void *out, uint32_t key, uint32_t threshold, float scale) {
    operand *p = (operand *)probabilities, copy[K + 1];
    const operand *q = whole_groups(query, K, copy);
    const long first = start & ~15L, last = feedback_padded(end), groups = feedback_groups(FORMAT, K);
    float room[GROUP == 1 ? 1 : last - first];
    float *s = GROUP == 1 ? (float *)probabilities + first : room;  // of slots from `first` on

    // 1. s_j = q · k_j + (q · u_j + s_j)
    const group *keyGroups = (const group *)keys;
    long j = first;
    for (; j + 64 <= last; j += 64) score_blocks(q, keyGroups, scores, j, groups, s + (j - first), 4);
    for (; j + 32 <= last; j += 32) score_blocks(q, keyGroups, scores, j, groups, s + (j - first), 2);
    for (; j < last; j += 16) score_blocks(q, keyGroups, scores, j, groups, s + (j - first), 1);
    for (j = first; j < start; j++) s[j - first] = -INFINITY;
    for (j = end; j < last; j++) s[j - first] = -INFINITY;

    // 2. p_j = softmax_j s
    const float inverse = exponentials(s, 0, last - first, 0);
    for (j = first; j < last; j += 16) STORE_OPERANDS(p + j, LOAD(s + (j - first)) * inverse);
    memset(p + first - 16, 0, 16 * sizeof(operand));
    memset(p + last, 0, 16 * sizeof(operand));

    // 3. out = Σ_j p_j v_j
    if (threshold == 0) {
        sum_over_slots(p, values, values, 0, start, end, K, (operand *)out);
        return;
    }
    operand kept[last - first];
    for (j = first; j < last; j++) {
        const int drops = feedback_hash(key, (uint32_t)j) < threshold;
        kept[j - first] = drops ? (operand)0 : (operand)(scale * (float)p[j]);
        p[j] = drops ? -p[j] : p[j];
    }
    const operand *own = (const operand *)values + first * feedback_padded(K);
    sum_over_slots(kept, own, own, 0, start - first, end - first, K, (operand *)out);
}

// ds = p · (dout · v − delta), for `blocks` blocks of 16 slots from slot j.
INLINE TARGET void score_gradient_blocks(
    const operand *dout, const operand *p, const group *values, float delta, long j, long groups, operand *ds,
    const int blocks) {
    v16 sum[4];
    for (int b = 0; b < blocks; b++) sum[b] = (v16){0} - delta;
    const group *value = values + j * groups;
    for (long g = 0; g < groups; g++)
        for (int b = 0; b < blocks; b++)
            sum[b] = DOT(sum[b], GROUPS(value + (b * groups + g) * 16), *(const group *)(dout + GROUP * g));
    for (int b = 0; b < blocks; b++) STORE_OPERANDS(ds + j + 16 * b, sum[b] * LOAD_OPERANDS(p + j + 16 * b));
}

KERNEL_TARGET static void attend_backward(
    const void *dcontext, const void *context, void *probabilities, const void *keys, const void *values,
    const void *positions, long start, long end, long K, void *scoreGradients, void *dq, float scale) {
    operand *p = (operand *)probabilities, *ds = (operand *)scoreGradients, copy[K + 1];
    const operand *dout = whole_groups(dcontext, K, copy), *out = (const operand *)context;
    const long first = start & ~15L, last = feedback_padded(end), groups = feedback_groups(FORMAT, K);

    // 3. dp_j = dout · v_j, and 2. ds_j = p_j (dp_j − Σ_i p_i dp_i), where Σ_i p_i dp_i = dout · out
    float delta = 0;
    for (long k = 0; k < K; k++) delta += (float)dout[k] * (float)out[k];
    float shares[scale == 1 ? 1 : last - first];
    if (scale != 1) {
        for (long j = first; j < last; j++) {
            const float weight = (float)p[j];
            shares[j - first] = delta * fabsf(weight);
            p[j] = weight > 0 ? (operand)(scale * weight) : (operand)0;
        }
        delta = 0;
    }
    const group *valueGroups = (const group *)values;
    long j = first;
    for (; j + 64 <= last; j += 64) score_gradient_blocks(dout, p, valueGroups, delta, j, groups, ds, 4);
    for (; j + 32 <= last; j += 32) score_gradient_blocks(dout, p, valueGroups, delta, j, groups, ds, 2);
    for (; j < last; j += 16) score_gradient_blocks(dout, p, valueGroups, delta, j, groups, ds, 1);
    memset(ds + first - 16, 0, 16 * sizeof(operand));
    memset(ds + last, 0, 16 * sizeof(operand));
    if (scale != 1)
        for (j = first; j < last; j++) ds[j] = (operand)((float)ds[j] - shares[j - first]);

    // 1. dq = Σ_j ds_j (k_j + u_j)
    sum_over_slots(ds, keys, positions, 1, start, end, K, (operand *)dq);
}

KERNEL_TARGET static void sum_offsets(
    const void *a, long aStride, long t0, long t1, long before, long reach, float *sums) {
    for (long t = t0; t < t1; t++) {
        const long visible = before + t < reach ? before + t : reach;
        const operand *row = (const operand *)a + t * aStride + before + t - reach;
        for (long c = reach - visible; c < reach; c++) sums[c] += (float)row[c];
    }
}
