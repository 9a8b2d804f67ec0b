// E2 and E3: y = x W'ᵀ + b', where x is read as it lies, normalised, or summed up from gradients that are on their way
//
// A group has some rows, a tile of ROWS at a time, and some panels of columns. It lays the rows into local memory,
// CHUNK of their columns at a time, once for all its panels where they fit; then every slice multiplies its share of a
// panel's inputs, and the slices' sums are added in their order. Whoever has a tile's first panel also writes what the
// reading yields: n, r, dx.
//
// What is between two products thus costs no meeting of the groups: each normalises for itself the few rows that it
// needs.
//
// Packed weights: a panel is 16 outputs, [inputs / 4][16][4], both padded to 16 (`packedPlace`). Where there are tensor
// cores it lies in the order in which their fragments want it.

#define ROWS 16
#define CHUNK 512
#define READERS (GROUP / ROWS)     // of a row
#define PER_WORD (NARROW ? 8 : 4)  // operands in sixteen bytes

#if NARROW && defined(TENSOR_CORES)
DEVICE long packedPlace(int output, int input, int inputs) {
    int lane = output % 8 * 4 + input % 8 / 2, element = output % 16 / 8 * 4 + input % 16 / 8 * 2 + input % 2;
    return ((long)(output / 16) * ((inputs + 15) / 16) + input / 16) * 256 + lane * 8 + element;
}
// Of the 8 results of a lane, the row and column of one.
DEVICE int rowOfResult(int lane, int i) { return lane / 4 + i % 4 / 2 * 8; }
DEVICE int columnOfResult(int lane, int i) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }

DEVICE void multiplyFragment(float *sums, const uint *a, uint b0, uint b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void multiply(
    const operand *rows, int width, const operand *panel, int lane, int slice, int used, float *sums) {
    for (int k = slice * 16; k < width; k += SLICES * 16) {
        uint a[4];
        for (int i = 0; i < 4; i++)
            a[i] = *(const uint *)(rows + (lane / 4 + i % 2 * 8) * (CHUNK + 8) + k + lane % 4 * 2 + i / 2 * 8);
        uint4 b = *(const uint4 *)(panel + k * 16 + lane * 8);
        multiplyFragment(sums, a, b.x, b.y);
        multiplyFragment(sums + 4, a, b.z, b.w);
    }
}
#else
DEVICE long packedPlace(int output, int input, int inputs) {
    return (((long)(output / 16) * ((inputs + 15) / 16 * 4) + input / 4) * 16 + output % 16) * 4 + input % 4;
}
DEVICE int rowOfResult(int lane, int i) { return lane / 16 * 8 + i; }
DEVICE int columnOfResult(int lane, int i) { return lane % 16; }

// A lane has one column and half the rows.
DEVICE void multiply(
    LOCAL const operand *rows, int width, GLOBAL const operand *panel, int lane, int slice, int used, float *sums) {
    rows += lane / 16 * 8 * (CHUNK + 8);
    if (lane / 16 * 8 >= used) return;
    for (int k = slice * 4; k < width; k += SLICES * 4) {
        GLOBAL const operand *w = panel + (k / 4 * 16 + lane % 16) * 4;
        float w0 = WIDE(w[0]), w1 = WIDE(w[1]), w2 = WIDE(w[2]), w3 = WIDE(w[3]);
        for (int i = 0; i < 8; i++) {
            LOCAL const operand *x = rows + i * (CHUNK + 8) + k;
            sums[i] += WIDE(x[0]) * w0 + WIDE(x[1]) * w1 + WIDE(x[2]) * w2 + WIDE(x[3]) * w3;
        }
    }
}
#endif

// What a tile's rows need to be read: mean and r; or of every term with a norm, mean dn and mean(dn ∘ n).
DEVICE void statistics(
    LOCAL const Phase *phase, int top, int used, GLOBAL float *state, GLOBAL const operand *operands, LOCAL float *sums,
    LOCAL float *room) {
    int row = THREAD / READERS, reader = THREAD % READERS, columns = phase->inputs, ofState = phase->read == READ_STATE;
    int passes = phase->read == READ_GRADIENT || (ofState && phase->deviation >= 0) ? 2 : 0;
    long at = (long)(top + row) * columns;
    for (int pass = 0; pass < passes; pass++) {
        Term term = phase->terms[pass];
        float first = 0, second = 0;
        if (row < used && ofState) {
            float mean = pass == 0 ? 0 : sums[row];
            for (int c = reader; c < columns; c += BATCH * READERS) {
                float x[BATCH];
                EACH x[i] = c + i * READERS < columns ? state[phase->source + at + c + i * READERS] - mean : 0;
                EACH first += pass == 0 ? x[i] : x[i] * x[i];
            }
        } else if (row < used && term.gradient >= 0 && term.normalized >= 0) {
            for (int c = reader; c < columns; c += BATCH * READERS) {
                float dn[BATCH], n[BATCH];
                EACH dn[i] = c + i * READERS < columns ? state[term.gradient + at + c + i * READERS] : 0;
                EACH n[i] = c + i * READERS < columns ? load(operands + term.normalized, at + c + i * READERS) : 0;
                EACH {
                    first += dn[i];
                    second += dn[i] * n[i];
                }
            }
        }
        BARRIER;
        room[THREAD] = first;
        room[GROUP + THREAD] = second;
        BARRIER;
        if (reader < (ofState ? 1 : 2)) {
            float sum = 0;
            for (int i = 0; i < READERS; i++) sum += room[reader * GROUP + row * READERS + i];
            sum /= columns;
            sums[(ofState ? pass : 2 * pass + reader) * ROWS + row] =
                ofState && pass == 1 ? 1 / SQRT(sum + 1e-5f) : sum;
        }
        BARRIER;
    }
}

// Of a row that a tile reads: its number, whether there is one, which it is in the tile, and where it ends. Where
// `keep`, what reading it yields is written.
typedef struct {
    int n, on, index, end, keep, sees;
    uint key;  // of dropout
    long at;   // where it begins in an array [N, inputs]
} Row;

// A work-item takes BATCH numbers of a row at a time, one in READERS: it waits once for all that these are made of.
#define COLUMN (column + i * READERS)
#define EACH_COLUMN EACH if (row->on && COLUMN < row->end)

// x, normalised where there is r.
DEVICE void readState(
    LOCAL const Phase *phase, const Row *row, int column, GLOBAL float *state, GLOBAL operand *operands,
    LOCAL const float *sums, float *x) {
    GLOBAL const float *source = state + phase->source + row->at;
    EACH x[i] = 0;
    EACH_COLUMN x[i] = source[COLUMN];
    if (phase->deviation >= 0) {
        float mean = sums[row->index], r = sums[ROWS + row->index];
        EACH x[i] = (x[i] - mean) * r;
        if (row->keep && row->on && column == 0) state[phase->deviation + row->n] = r;
    }
    if (row->keep && phase->normalized >= 0) EACH_COLUMN store(operands + phase->normalized + row->at, COLUMN, x[i]);
}

// dx: what is there, and what the terms add to it.
DEVICE void readGradient(
    const Shape *s, LOCAL const Phase *phase, const Row *row, int column, GLOBAL float *state, GLOBAL operand *operands,
    LOCAL const float *sums, float *x) {
    EACH x[i] = 0;
    if (phase->source >= 0) EACH_COLUMN x[i] = state[phase->source + row->at + COLUMN];
    for (int t = 0; t < 2; t++) {
        Term term = phase->terms[t];
        if (term.gradient < 0) continue;
        float dx[BATCH], factor = term.factor < 0 ? 1 : state[term.factor];
        EACH dx[i] = 0;
        EACH_COLUMN dx[i] = state[term.gradient + row->at + COLUMN];
        if (term.normalized >= 0 && row->on) {
            float n[BATCH], r = state[term.deviation + row->n];
            float mean = sums[2 * t * ROWS + row->index], projection = sums[(2 * t + 1) * ROWS + row->index];
            EACH n[i] = 0;
            EACH_COLUMN n[i] = load(operands + term.normalized + row->at, COLUMN);
            EACH dx[i] = r * (dx[i] - mean - n[i] * projection);
        }
        if (row->keep && t == 1 && phase->lastTerm >= 0) EACH_COLUMN state[phase->lastTerm + row->at + COLUMN] = dx[i];
        EACH x[i] += factor * dx[i];
    }
    if (row->keep && phase->sum >= 0) EACH_COLUMN state[phase->sum + row->at + COLUMN] = x[i];
    if (phase->attention && !row->sees) EACH x[i] = 0;
    if (s->drops && phase->readPlace >= 0) EACH x[i] *= dropped(s, row->key, COLUMN);
    if (row->keep && phase->droppedSum >= 0) EACH_COLUMN store(operands + phase->droppedSum + row->at, COLUMN, x[i]);
}

// Columns from `from` on, `count` of them, of a work-item's row into the tile; beyond what there is, zeros.
DEVICE void readRow(
    const Shape *s, LOCAL const Phase *phase, const Row *row, int from, int count, GLOBAL float *state,
    GLOBAL operand *operands, LOCAL operand *tile, LOCAL const float *sums) {
    int reader = THREAD % READERS;
    if (phase->read == READ_OPERAND && row->end % PER_WORD == 0) {
        // As it lies, sixteen bytes at a time.
        for (int column = reader * PER_WORD; column < count; column += READERS * PER_WORD) {
            uint4 word;
            word.x = word.y = word.z = word.w = 0;
            if (row->on && from + column < row->end)
                word = *(GLOBAL const uint4 *)(operands + phase->source + row->at + from + column);
            *(LOCAL uint4 *)(tile + column) = word;
        }
        return;
    }
    for (int start = reader; start < count; start += BATCH * READERS) {
        float x[BATCH];
        int column = from + start;
        if (phase->read == READ_STATE) {
            readState(phase, row, column, state, operands, sums, x);
        } else if (phase->read == READ_GRADIENT) {
            readGradient(s, phase, row, column, state, operands, sums, x);
        } else {
            EACH x[i] = 0;
            EACH_COLUMN x[i] = load(operands + phase->source + row->at, COLUMN);
        }
        EACH tile[start + i * READERS] = narrow(row->on && COLUMN < row->end ? x[i] : 0);
    }
}

// What becomes of one number y of the result.
DEVICE void writeNumber(
    const Shape *s, LOCAL const Phase *phase, int n, int column, float y, GLOBAL float *state, GLOBAL operand *operands,
    GLOBAL const int *integers) {
    int step = n / s->batch, row = n % s->batch;
    long at = (long)n * phase->outputs + column;
    if (phase->bias >= 0) y += state[phase->bias + column];
    if (phase->write == WRITE_RECTIFIED) y = fmax(0.0f, y);
    if (s->drops && phase->writePlace >= 0)
        y *= dropped(
            s, rowKey(mixed(mixed(s->dropoutKey, phase->layer), phase->writePlace), step, row), column);
    if (phase->write == WRITE_STATE) {
        state[phase->result + at] = y;
    } else if (phase->write == ADD_STATE) {
        state[phase->result + at] += y;
    } else if (phase->write == WRITE_RESIDUAL) {
        if (phase->attention && integers[s->counts + row] + step == 0) y = 0;
        y += state[phase->residual + at];
        state[phase->result + at] = y;
        if (phase->memory >= 0) {  // E9: m = Σ a_l x_l
            float m = state[s->layerWeights + phase->layer + 1] * y;
            for (int l = 0; l <= phase->layer; l++)
                m += state[s->layerWeights + l]
                    * state[phase->layerOutputs + l * (long)s->steps * s->batch * s->width + at];
            state[phase->memory + at] = m;
        }
    } else if (phase->write == WRITE_KEYS_VALUES) {
        int count = phase->ofCarried ? step : integers[s->counts + row] + step;
        int head = column % s->width / s->headSize, k = column % s->headSize;
        long cache = ((long)integers[s->places + row] * s->heads + head) * s->slots * s->headSize;
        long bySlot = column < s->width ? phase->keys : phase->values, slot = count % s->slots;
        long across = column < s->width ? phase->keysAcross : phase->valuesAcross;
        if (bySlot >= 0) store(operands + bySlot, cache + slot * s->headSize + k, y);
        if (across >= 0) store(operands + across, cache + (long)k * s->slots + slot, y);
    } else {
        if (phase->write == WRITE_RECTIFIED_GRADIENT && load(operands + phase->gate, at) <= 0) y = 0;
        store(operands + phase->result, at, y);
    }
}

DEVICE void product(
    const Shape *s, LOCAL const Phase *phase, int first, GLOBAL float *state, GLOBAL operand *operands,
    GLOBAL const int *integers, LOCAL operand *tile, LOCAL float *sums, LOCAL float *room) {
    int lane = THREAD % LANES, slice = THREAD / LANES, inputs = phase->inputs;
    int tiles = (phase->rows + ROWS - 1) / ROWS, panels = (phase->outputs + 15) / 16;
    int parts = max(1, min(GROUPS / tiles, panels)), part = THIS_GROUP / tiles;
    int width = (inputs + 15) / 16 * 16, chunks = (width + CHUNK - 1) / CHUNK;
    if (part >= parts && tiles <= GROUPS) return;
    if (tiles > GROUPS) part = 0;
    int begin = panels * part / parts, end = panels * (part + 1) / parts;
    for (int index = THIS_GROUP % tiles; index < tiles; index += GROUPS) {
        int top = first + index * ROWS, used = min(ROWS, phase->rows - index * ROWS);
        statistics(phase, top, used, state, operands, sums, room);
        Row row;  // that this work-item reads
        row.index = THREAD / READERS;
        row.n = top + row.index;
        row.on = row.index < used;
        row.end = inputs;
        row.at = (long)row.n * inputs;
        int step = row.n / s->batch, b = row.n % s->batch;
        row.sees = phase->ofCarried || integers[s->counts + b] + step > 0;
        row.key = s->drops && phase->readPlace >= 0
            ? rowKey(mixed(mixed(s->dropoutKey, phase->layer), phase->readPlace), step, b)
            : 0;
        // Without outputs the rows are read all the same, for what that yields.
        for (int panel = begin; panel < max(end, begin + 1); panel++) {
            float results[8] = {0, 0, 0, 0, 0, 0, 0, 0};
            for (int chunk = 0; chunk < chunks; chunk++) {
                int from = chunk * CHUNK, here = min(CHUNK, width - from);
                if (panel == begin || chunks > 1) {
                    BARRIER;
                    row.keep = panel == 0;
                    readRow(s, phase, &row, from, here, state, operands, tile + row.index * (CHUNK + 8), sums);
                    BARRIER;
                }
                if (panel < end)
                    multiply(
                        tile, here, operands + phase->weight + ((long)panel * width + from) * 16, lane, slice, used,
                        results);
            }
            BARRIER;
            for (int i = 0; i < 8; i++)
                room[slice * 256 + rowOfResult(lane, i) * 16 + columnOfResult(lane, i)] = results[i];
            BARRIER;
            for (int i = THREAD; i < 256; i += GROUP) {
                int n = i / 16, column = panel * 16 + i % 16;
                if (n >= used || column >= phase->outputs) continue;
                float y = 0;
                for (int other = 0; other < SLICES; other++) y += room[other * 256 + i];
                writeNumber(s, phase, top + n, column, y, state, operands, integers);
            }
        }
        BARRIER;
    }
}
