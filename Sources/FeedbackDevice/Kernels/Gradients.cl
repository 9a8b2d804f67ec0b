// What is left of the backward pass when the recurrence has ended: sums over all its rows

// E3 and E5: dW' += dyᵀ x, db' += Σ dy, for all weights of a model in one launch
//
// A group has a square tile of dW', TILE outputs by TILE inputs, and takes DEPTH rows at a time into local memory; a
// work-item has 16 numbers of it. The sum is always in the order of the rows. Where there are tensor cores the rows lie
// transposed, as pairs of neighbouring rows are what they multiply.

#define SIDE (GROUP == 256 ? 16 : 8)
#define TILE (4 * SIDE)

#if NARROW && defined(TENSOR_CORES)
#define DEPTH 32
#define STAGED (TILE * (DEPTH + 8))
DEVICE int stagedPlace(int row, int column) { return column * (DEPTH + 8) + row; }
DEVICE int outputOfSum(int i) { return THREAD / LANES % 4 * 16 + THREAD % LANES / 4 + i % 4 / 2 * 8; }
DEVICE int inputOfSum(int i) { return THREAD / LANES / 4 * 32 + i / 4 * 8 + THREAD % 4 * 2 + i % 2; }
DEVICE void addRows(const operand *deltas, const operand *inputs, float *sums) {
    int lane = THREAD % LANES;
    deltas += (THREAD / LANES % 4 * 16 + lane / 4) * (DEPTH + 8) + lane % 4 * 2;
    inputs += (THREAD / LANES / 4 * 32 + lane / 4) * (DEPTH + 8) + lane % 4 * 2;
    for (int k = 0; k < DEPTH; k += 16) {
        uint a[4];
        for (int i = 0; i < 4; i++) a[i] = *(const uint *)(deltas + i % 2 * 8 * (DEPTH + 8) + k + i / 2 * 8);
        for (int j = 0; j < 4; j++) {
            const operand *b = inputs + j * 8 * (DEPTH + 8) + k;
            multiplyFragment(sums + 4 * j, a, *(const uint *)b, *(const uint *)(b + 8));
        }
    }
}
#else
#define DEPTH 16
#define STAGED (TILE * DEPTH)
DEVICE int stagedPlace(int row, int column) { return row * TILE + column; }
DEVICE int outputOfSum(int i) { return THREAD / SIDE * 4 + i / 4; }
DEVICE int inputOfSum(int i) { return THREAD % SIDE * 4 + i % 4; }
DEVICE void addRows(LOCAL const operand *deltas, LOCAL const operand *inputs, float *sums) {
    for (int row = 0; row < DEPTH; row++)
        for (int i = 0; i < 4; i++) {
            float delta = WIDE(deltas[row * TILE + THREAD / SIDE * 4 + i]);
            for (int j = 0; j < 4; j++) sums[i * 4 + j] += delta * WIDE(inputs[row * TILE + THREAD % SIDE * 4 + j]);
        }
}
#endif

KERNEL weightGradients(
    GLOBAL float *state, GLOBAL const operand *operands, GLOBAL const WeightGradient *all, int count, int tiles) {
    SHARED operand deltas[STAGED];
    SHARED operand inputs[STAGED];
    for (int tile = THIS_GROUP; tile < tiles; tile += GROUPS) {
        int index = 0;
        while (index + 1 < count && all[index + 1].tile <= tile) index++;
        WeightGradient w = all[index];
        int wide = (w.inputs + TILE - 1) / TILE, own = tile - w.tile;
        int top = own / wide * TILE, left = own % wide * TILE;
        float sums[16], bias = 0;
        for (int i = 0; i < 16; i++) sums[i] = 0;
        for (int more = 1; more; index++) {
            w = all[index];
            more = w.more;
            for (int from = 0; from < w.rows; from += DEPTH) {
                BARRIER;
                for (int i = THREAD; i < DEPTH * TILE; i += GROUP) {
                    int row = from + i / TILE, o = top + i % TILE, c = left + i % TILE;
                    int place = stagedPlace(i / TILE, i % TILE);
                    deltas[place] = row < w.rows && o < w.outputs ? operands[w.delta + row * w.deltaStride + o] : 0;
                    inputs[place] = row < w.rows && c < w.inputs ? operands[w.input + row * w.inputStride + c] : 0;
                }
                BARRIER;
                addRows(deltas, inputs, sums);
                if (left == 0 && THREAD < TILE)
                    for (int row = 0; row < DEPTH; row++) bias += WIDE(deltas[stagedPlace(row, THREAD)]);
            }
        }
        for (int i = 0; i < 16; i++) {
            int o = top + outputOfSum(i), c = left + inputOfSum(i);
            if (o < w.outputs && c < w.inputs) state[w.output + o * w.outputStride + c] += sums[i];
        }
        if (left == 0 && THREAD < TILE && top + THREAD < w.outputs && w.bias >= 0)
            state[w.bias + (top + THREAD) * w.biasStride] += bias;
    }
}

// E1: dE[token] += dx, the rows of a token in their order: order[starts[token] ..< starts[token + 1]]
KERNEL embeddingGradient(
    GLOBAL float *state, GLOBAL const int *integers, long starts, long order, long dx, long gradient, int vocabulary,
    int width) {
    for (int token = THIS_GROUP; token < vocabulary; token += GROUPS)
        for (int column = THREAD; column < width; column += GROUP) {
            float sum = 0;
            int end = integers[starts + token + 1];
            for (int from = integers[starts + token]; from < end; from += BATCH) {
                float x[BATCH];
                EACH x[i] = from + i < end ? state[dx + (long)integers[order + from + i] * width + column] : 0;
                EACH sum += x[i];
            }
            if (sum != 0) state[gradient + (long)token * width + column] += sum;
        }
}

// E9: da_l = Σ dm · x_l, in `parts` partial sums each, to which this pass adds
KERNEL layerWeightGradients(
    GLOBAL float *state, long dm, long layerOutputs, long partials, long count, int layers, int parts) {
    SHARED float room[GROUP];
    for (int index = THIS_GROUP; index < layers * parts; index += GROUPS) {
        int layer = index / parts, part = index % parts;
        float sum = 0;
        for (long i = count * part / parts + THREAD; i < count * (part + 1) / parts; i += GROUP)
            sum += state[dm + i] * state[layerOutputs + layer * count + i];
        sum = sumOfSlice(sum, room);
        BARRIER;
        room[THREAD] = sum;
        BARRIER;
        if (THREAD == 0) {
            for (int slice = 1; slice < SLICES; slice++) sum += room[slice * LANES];
            state[partials + index] += sum;
        }
        BARRIER;
    }
}

// Keeps the last `kept` of `filled` slots' vectors as the first ones; who has a number of a slot takes it through all
// slots.
KERNEL carry(GLOBAL operand *operands, long vectors, int filled, int kept, long size) {
    for (long i = (long)THIS_GROUP * GROUP + THREAD; i < size; i += (long)GROUPS * GROUP)
        for (long slot = 0; slot < kept; slot++)
            operands[vectors + slot * size + i] = operands[vectors + (filled - kept + slot) * size + i];
}
