// Attention in decoding: one query, one head, over a memory of groups. Included once a format and CPU.
//
//   q [K], keys [slots / 16][groups over K][16], positions [groups over K][stride], values [slots / GROUP][P]  → out [K]
//
// Equations: FeedbackEngine/Operations/Attention.swift. A slot's sum runs over its groups in order, whatever the blocks;
// the sums of keys and of distances, and those of every fourth group of slots, wait for none but themselves. Keys and
// values of a head take about as much memory: while scores are computed, the values of the same slots are fetched, and
// then the next row's keys.

// s_j = q · (k_j + u_j) + bias_j, for `blocks` blocks of 16 slots from slot j.
INLINE TARGET void score_memory(
    const int32_t *q, const int32_t *keys, const int32_t *positions, long stride, const float *bias, long groups,
    const int32_t *values, long j, float *s, const int blocks) {
    v16 sum[4], distance[4];
    for (int b = 0; b < blocks; b++) sum[b] = (v16){0}, distance[b] = LOAD(bias + j + 16 * b);
    const int32_t *key = keys + j * groups, *position = positions + j;
    for (long g = 0; g < groups; g++) {
        for (int b = 0; b < blocks; b++) {
            sum[b] = DOT(sum[b], GROUPS(key + (b * groups + g) * 16), q[g]);
            distance[b] = DOT(distance[b], GROUPS(position + g * stride + 16 * b), q[g]);
            __builtin_prefetch(values + (b * groups + g) * 16, 0, 2);
        }
    }
    for (int b = 0; b < blocks; b++) STORE(s + j + 16 * b, sum[b] + distance[b]);
}

// out[16 c + lane] = scale · Σ_j p_j v_j over the groups [low, high) of slots, for `columns` vectors of the head.
INLINE TARGET void sum_memory(
    const int32_t *p, const int32_t *values, const int32_t *next, long low, long high, long stride, float scale,
    float *out, const int columns) {
    v16 sum[4][4] = {0};
    for (long g = low; g < high; g += 4) {
        for (int i = 0; i < 4; i++) {
            for (int c = 0; c < columns; c++) {
                sum[i][c] = DOT(sum[i][c], GROUPS(values + (g + i) * stride + 16 * c), p[g + i]);
                if (next) __builtin_prefetch(next + (g + i) * stride + 16 * c, 0, 2);
            }
        }
    }
    for (int c = 0; c < columns; c++) STORE(out + 16 * c, ((sum[0][c] + sum[1][c]) + (sum[2][c] + sum[3][c])) * scale);
}

KERNEL_TARGET static void attend_decoding(
    const float *q, const int32_t *keys, const int32_t *values, const int32_t *next, const int32_t *positions,
    long stride, const float *positionBias, long start, long end, long K, float *scratch, float *out) {
    const long first = start & ~15L, last = feedback_padded(end), groups = feedback_groups(FORMAT, K);
    const long width = feedback_padded(K);
    int32_t *query = (int32_t *)scratch;
    float *s = scratch + feedback_padded(groups);
    int32_t *p = (int32_t *)(s + last);
    feedback_encode(FORMAT, q, K, query, 0, 0);

    // 1. s_j = q · (k_j + u_j) + s_j
    long j = first;
#define SCORE(blocks)                                                                                                  \
    score_memory(query, keys, positions, stride, positionBias, groups, values + j / GROUP * width, j, s, blocks)
    for (; j + 64 <= last; j += 64) SCORE(4);
    for (; j < last; j += 16) SCORE(1);
#undef SCORE
    for (j = first; j < start; j++) s[j] = -INFINITY;
    for (j = end; j < last; j++) s[j] = -INFINITY;

    // 2. p_j = softmax_j s, not yet divided by the sum
    const float inverse = exponentials(s, first, last, (operand *)p);

    // 3. out = Σ_j p_j v_j
    long k = 0;
#define SUM(to, columns)                                                                                               \
    sum_memory(p, values + k, next ? next + k : 0, first / GROUP, last / GROUP, width, inverse, to, columns)
    for (; k + 64 <= K; k += 64) SUM(out + k, 4);
    for (; k + 32 <= K; k += 32) SUM(out + k, 2);
    for (; k < K; k += 16) {
        float some[16];
        SUM(some, 1);
        memcpy(out + k, some, sizeof(float) * (size_t)(K - k < 16 ? K - k : 16));
    }
#undef SUM
}
