// E5–E7: attention over the memories, and E14 on its weights
//
//   forward  1   s_o = q̃·(k_j + U_o) + S̃_o,  j = t − o             E5
//            2   p   = softmax s,  p̂ = z ∘ p / (1 − ρ)             E6, E14
//            3   c   = Σ_o p̂_o v_j                                  E7
//   backward 3   dp_o = dc·v_j
//            2   ds_o = p̂_o dp_o − p_o (dc·c)
//            1   dq̃   = Σ_o ds_o (k_j + U_o)
//   gather       dk_j = Σ ds_o q̃,  dv_j = Σ p̂_o dc      over all later steps t = j + o, all layers that read the cache
//
// A slice takes one row and head, and every group as many of them: its lanes the offsets of a score, and the columns of
// a sum over offsets. So neighbours read neighbours: of k and v there is a copy for either. p and ds are kept by offset,
// [N·H, reach], zero beyond what a step sees: so the gradients of positions, dŨ_o = Σ_n ds_o q̃, are products of two
// matrices like those of weights. A dropped p has a minus sign until it is p̂.

typedef struct {
    int on, n, head, step, row, count, seen;
    int place;  // count's in the ring of slots
    long cache, vector, scores;
} Item;

DEVICE Item itemOf(const Shape *s, LOCAL const Phase *phase, int first, int index, GLOBAL const int *integers) {
    Item item;
    item.on = index < phase->rows * s->heads;
    item.n = first + (item.on ? index / s->heads : 0);
    item.head = index % s->heads;
    item.step = item.n / s->batch;
    item.row = item.n % s->batch;
    item.count = integers[s->counts + item.row] + item.step;
    item.seen = item.on ? min(item.count, s->reach) : 0;
    item.place = item.count % s->slots;
    item.cache = ((long)integers[s->places + item.row] * s->heads + item.head) * s->slots * s->headSize;
    item.vector = (long)item.n * s->width + item.head * s->headSize;
    item.scores = ((long)item.n * s->heads + item.head) * s->reach;
    return item;
}

// The slot of the memory at an offset.
DEVICE int slotAt(const Shape *s, int place, int offset) {
    int slot = place - offset;
    return slot < 0 ? slot + s->slots : slot;
}

DEVICE void attend(
    const Shape *s, LOCAL const Phase *phase, int first, GLOBAL float *state, GLOBAL operand *operands,
    GLOBAL const int *integers, LOCAL float *room) {
    int lane = THREAD % LANES, slice = THREAD / LANES, K = s->headSize;
    GLOBAL float *kept = state + phase->scratch + (long)(THIS_GROUP * SLICES + slice) * s->reach;
    for (int start = THIS_GROUP; start < phase->rows * s->heads; start += GROUPS * SLICES) {
        Item item = itemOf(s, phase, first, start + slice * GROUPS, integers);
        GLOBAL const operand *q = operands + phase->query + item.vector;
        float largest = -INFINITY;
        for (int o = 1 + lane; o <= item.seen; o += LANES) {  // 1
            GLOBAL const operand *key = operands + phase->keysAcross + item.cache + slotAt(s, item.place, o);
            GLOBAL const operand *position = operands + phase->positionsAcross + (long)item.head * s->reach * K + o - 1;
            float score = state[phase->positionBias + (long)item.head * s->reach + o - 1];
            for (int k = 0; k < K; k += BATCH) {
                float own[BATCH], other[BATCH];
                EACH own[i] = k + i < K ? load(q, k + i) : 0;
                EACH other[i] = k + i < K ? load(key, (long)(k + i) * s->slots) : 0;
                EACH other[i] += k + i < K ? load(position, (long)(k + i) * s->reach) : 0;
                EACH score += own[i] * other[i];
            }
            kept[o - 1] = score;
            largest = fmax(largest, score);
        }
        largest = largestOfSlice(largest, room);  // 2
        float total = 0;
        for (int o = 1 + lane; o <= item.seen; o += LANES) {
            kept[o - 1] = EXP(kept[o - 1] - largest);
            total += kept[o - 1];
        }
        total = sumOfSlice(total, room);
        uint key = rowKey(mixed(mixed(mixed(s->dropoutKey, phase->layer), 0), item.head), item.count, item.row);
        for (int o = 1 + lane; o <= s->reach; o += LANES) {
            float p = o <= item.seen ? kept[o - 1] / total : 0, z = s->drops ? dropped(s, key, item.count - o) : 1;
            if (o <= item.seen) kept[o - 1] = z * p;
            if (item.on && phase->probabilities >= 0)
                store(operands + phase->probabilities + item.scores, o - 1, z == 0 ? -p : p);
        }
        BARRIER;
        for (int k = lane; k < K; k += LANES) {  // 3
            GLOBAL const operand *value = operands + phase->values + item.cache + k;
            float sum = 0;
            for (int o = 1; o <= item.seen; o += BATCH) {
                float weight[BATCH], other[BATCH];
                EACH weight[i] = o + i <= item.seen ? kept[o + i - 1] : 0;
                EACH other[i] = o + i <= item.seen ? load(value, (long)slotAt(s, item.place, o + i) * K) : 0;
                EACH sum += weight[i] * other[i];
            }
            if (item.on) store(operands + phase->context + item.vector, k, sum);
        }
        BARRIER;
    }
}

DEVICE void attendBackward(
    const Shape *s, LOCAL const Phase *phase, int first, GLOBAL float *state, GLOBAL operand *operands,
    GLOBAL const int *integers, LOCAL float *room) {
    int lane = THREAD % LANES, slice = THREAD / LANES, K = s->headSize;
    GLOBAL float *kept = state + phase->scratch + (long)(THIS_GROUP * SLICES + slice) * s->reach;
    for (int start = THIS_GROUP; start < phase->rows * s->heads; start += GROUPS * SLICES) {
        Item item = itemOf(s, phase, first, start + slice * GROUPS, integers);
        GLOBAL const operand *dc = operands + phase->contextGradient + item.vector;
        GLOBAL const operand *c = operands + phase->context + item.vector;
        GLOBAL operand *p = operands + phase->probabilities + item.scores;
        float mean = 0;  // dc·c = Σ p̂_o dp_o
        for (int k = lane; k < K; k += LANES) mean += load(dc, k) * load(c, k);
        mean = sumOfSlice(mean, room);
        for (int o = 1 + lane; o <= s->reach; o += LANES) {
            float ds = 0;
            if (o <= item.seen) {
                GLOBAL const operand *value = operands + phase->valuesAcross + item.cache + slotAt(s, item.place, o);
                float dp = 0, weight = load(p, o - 1);
                for (int k = 0; k < K; k += BATCH) {  // 3
                    float own[BATCH], other[BATCH];
                    EACH own[i] = k + i < K ? load(dc, k + i) : 0;
                    EACH other[i] = k + i < K ? load(value, (long)(k + i) * s->slots) : 0;
                    EACH dp += own[i] * other[i];
                }
                float hat = fmax(0.0f, weight) * s->dropoutScale;
                ds = hat * dp - fabs(weight) * mean;  // 2
                kept[o - 1] = ds;
                store(p, o - 1, hat);
            }
            if (item.on) store(operands + phase->scoreGradients + item.scores, o - 1, ds);
        }
        BARRIER;
        for (int k = lane; k < K; k += LANES) {  // 1
            GLOBAL const operand *key = operands + phase->keys + item.cache + k;
            GLOBAL const operand *position = operands + phase->positions + (long)item.head * s->reach * K + k;
            float sum = 0;
            for (int o = 1; o <= item.seen; o += BATCH) {
                float ds[BATCH], other[BATCH];
                EACH ds[i] = o + i <= item.seen ? kept[o + i - 1] : 0;
                EACH other[i] = o + i <= item.seen ? load(key, (long)slotAt(s, item.place, o + i) * K) : 0;
                EACH other[i] += o + i <= item.seen ? load(position, (long)(o + i - 1) * K) : 0;
                EACH sum += ds[i] * other[i];
            }
            if (item.on) store(operands + phase->queryGradient + item.vector, k, sum);
        }
        BARRIER;
    }
}

// Rows are slots here: row j·B + b is slot j of row b.
DEVICE void gather(
    const Shape *s, LOCAL const Phase *phase, int first, GLOBAL operand *operands, GLOBAL const int *integers) {
    int lane = THREAD % LANES, slice = THREAD / LANES, K = s->headSize;
    for (int index = THIS_GROUP + slice * GROUPS; index < phase->rows * s->heads * 2; index += GROUPS * SLICES) {
        int ofValue = index % 2, head = index / 2 % s->heads, place = first + index / 2 / s->heads;
        int slot = place / s->batch, row = place % s->batch, carried = integers[s->counts + row];
        int from = max(0, slot + 1 - carried), steps = min(s->steps, slot + 1 + s->reach - carried) - from;
        // From one step's to the next one's, of which a score is one offset farther.
        long n = (long)from * s->batch + row, vectorStride = (long)s->batch * s->width;
        long scoreStride = (long)s->batch * s->heads * s->reach + 1;
        for (int k = lane; k < K; k += LANES) {
            float sum = 0;
            for (int l = 0; l < phase->layers; l++) {
                GLOBAL const operand *score = operands + (ofValue ? phase->probabilities : phase->scoreGradients)
                    + l * phase->scoreStride + (n * s->heads + head) * s->reach + carried + from - slot - 1;
                GLOBAL const operand *vector = operands + (ofValue ? phase->contextGradient : phase->query)
                    + l * phase->layerStride + n * s->width + head * K + k;
                for (int t = 0; t < steps; t += BATCH) {
                    float weight[BATCH], other[BATCH];
                    EACH weight[i] = t + i < steps ? load(score, (t + i) * scoreStride) : 0;
                    EACH other[i] = t + i < steps ? load(vector, (t + i) * vectorStride) : 0;
                    EACH sum += weight[i] * other[i];
                }
            }
            store(operands + phase->result, ((long)place * 2 + ofValue) * s->width + head * K + k, sum);
        }
    }
}
