// Once an optimizer step: parameters to packed weights, and gradients of packed weights to gradients of parameters (E3,
// E5, E9)

// a = softmax(w) of E9; `memory` is 0 for a learned sum, 1 for the top layer alone
KERNEL layerWeights(GLOBAL float *state, long w, long a, int layers, int memory) {
    if (THIS_GROUP > 0 || THREAD > 0) return;
    float largest = -INFINITY, total = 0;
    for (int l = 0; memory == 0 && l <= layers; l++) largest = fmax(largest, state[w + l]);
    for (int l = 0; memory == 0 && l <= layers; l++) total += EXP(state[w + l] - largest);
    for (int l = 0; l <= layers; l++) state[a + l] = memory == 0 ? EXP(state[w + l] - largest) / total : l == layers;
}

// W' = s W diag γ, as it is and transposed, and b' = s (W β + b). A unit is 16 outputs of a map; a bias belongs to the
// last outputs.
KERNEL pack(
    GLOBAL float *state, GLOBAL operand *operands, GLOBAL const Map *maps, int count, int units, long parameters) {
    SHARED float room[GROUP];
    GLOBAL const float *p = state + parameters;
    for (int unit = THIS_GROUP; unit < units; unit += GROUPS) {
        int index = 0;
        while (index + 1 < count && maps[index + 1].unit <= unit) index++;
        Map map = maps[index];
        int top = (unit - map.unit) * 16, inputs = map.inputs, wide = (inputs + 15) / 16 * 16;
        for (int i = THREAD; i < 16 * wide; i += GROUP) {
            int o = top + i / wide, c = i % wide;
            float w = 0;
            if (o < map.outputs && c < inputs)
                w = map.scale * p[map.weight + (long)o * inputs + c] * (map.gain < 0 ? 1 : p[map.gain + c]);
            store(operands, map.packed + packedPlace(o, c, inputs), w);
            store(operands, map.transposed + packedPlace(c, o, map.outputs), w);
        }
        for (int start = 0; start < 16; start += SLICES) {
            int o = top + start + THREAD / LANES;
            float sum = 0;
            if (o < map.outputs && map.shift >= 0)
                for (int c = THREAD % LANES; c < inputs; c += LANES)
                    sum += p[map.weight + (long)o * inputs + c] * p[map.shift + c];
            sum = sumOfSlice(sum, room);
            int own = o - (map.outputs - map.biasCount);
            if (o < map.outputs && THREAD % LANES == 0)
                state[map.packedBias + o] = map.scale * (own >= 0 && map.bias >= 0 ? sum + p[map.bias + own] : sum);
        }
    }
}

// U as an operand and S̃_o = K^-½ (S_o − u·U_o), by head and offset
KERNEL packPositions(
    GLOBAL float *state, GLOBAL operand *operands, GLOBAL const Positions *all, int layers, int heads, int size,
    int reach, long parameters, float scale) {
    GLOBAL const float *p = state + parameters;
    for (int i = THIS_GROUP * GROUP + THREAD; i < layers * heads * reach; i += GROUPS * GROUP) {
        int o = i % reach, head = i / reach % heads;
        Positions own = all[i / reach / heads];
        long table = (long)head * reach + o, from = -(long)o * heads + head;
        float dot = 0;
        for (int k = 0; k < size; k++) {
            float u = p[own.embeddings + from * size + k];
            dot += u * p[own.queryBias + head * size + k];
            if (own.packed >= 0) store(operands, own.packed + table * size + k, u);
            store(operands, own.packedAcross + ((long)head * size + k) * reach + o, u);
        }
        state[own.packedBias + table] = scale * (p[own.bias + from] - dot);
    }
}

#define EACH_OUTPUT EACH if (from + i < map.outputs)

// dW = s (dW' diag γ + db' βᵀ), dγ += s Σ_o W dW', dβ += s Σ_o W db', db = s db', in place; a unit is GROUP inputs of a
// chain of maps that have one norm. The bias's gradient is that of the last outputs; of the others db' counts as zero.
KERNEL unfold(GLOBAL float *state, GLOBAL const Map *maps, int count, int units, long parameters, long gradient) {
    GLOBAL const float *p = state + parameters;
    GLOBAL float *g = state + gradient;
    for (int unit = THIS_GROUP; unit < units; unit += GROUPS) {
        int index = 0, before = 0;
        for (; index < count; index++) {
            if (index > 0 && maps[index - 1].chain) continue;
            int own = (maps[index].inputs + GROUP - 1) / GROUP;
            if (unit < before + own) break;
            before += own;
        }
        int c = (unit - before) * GROUP + THREAD;
        float gain = 0, shift = 0;
        for (int more = 1; more; index++) {
            Map map = maps[index];
            int first = map.outputs - map.biasCount, normed = map.gain >= 0;
            float ownGain = normed && c < map.inputs ? p[map.gain + c] : 1;
            float ownShift = normed && c < map.inputs ? p[map.shift + c] : 0;
            if (c < map.inputs)
                for (int from = 0; from < map.outputs; from += BATCH) {
                    long at = map.weight + (long)from * map.inputs + c;
                    float w[BATCH], dw[BATCH], db[BATCH];
                    EACH_OUTPUT w[i] = p[at + (long)i * map.inputs];
                    EACH_OUTPUT dw[i] = g[at + (long)i * map.inputs];
                    EACH_OUTPUT db[i] = from + i >= first ? state[map.biasGradient + from + i] : 0;
                    EACH_OUTPUT {
                        gain += map.scale * w[i] * dw[i];
                        shift += map.scale * w[i] * db[i];
                        g[at + (long)i * map.inputs] = map.scale * (normed ? dw[i] * ownGain + db[i] * ownShift : dw[i]);
                    }
                }
            if (map.bias >= 0 && unit == before)
                for (int o = first + THREAD; o < map.outputs; o += GROUP)
                    g[map.bias + o - first] += map.scale * state[map.biasGradient + o];
            more = map.chain;
            if (!more && normed && c < map.inputs) {
                g[map.gain + c] += gain;
                g[map.shift + c] += shift;
            }
        }
    }
}

// dU_o = dŨ_o − K^-½ u dS̃_o, du −= K^-½ Σ_o dS̃_o U_o, dS_o = K^-½ dS̃_o, in place; a group has a layer
KERNEL unfoldPositions(
    GLOBAL float *state, GLOBAL const Positions *all, int layers, int heads, int size, int reach, long parameters,
    long gradient, float scale) {
    GLOBAL const float *p = state + parameters;
    GLOBAL float *g = state + gradient;
    for (int layer = THIS_GROUP; layer < layers; layer += GROUPS) {
        Positions own = all[layer];
        for (int d = THREAD; d < heads * size; d += GROUP) {
            float sum = 0;
            for (int o = 0; o < reach; o++) {
                long at = own.embeddings - (long)o * heads * size + d;
                float ds = scale * g[own.bias - (long)o * heads + d / size];
                g[at] -= p[own.queryBias + d] * ds;
                sum += p[at] * ds;
            }
            g[own.queryBias + d] -= sum;
        }
        BARRIER;
        for (int i = THREAD; i < reach * heads; i += GROUP) g[own.bias - (long)(reach - 1) * heads + i] *= scale;
        BARRIER;
    }
}

// E9: dw_l = a_l (da_l − Σ a_i da_i), where da_l is the sum of its partial sums
KERNEL unfoldLayerWeights(GLOBAL float *state, long partials, long a, long gradient, int layers, int parts) {
    if (THIS_GROUP > 0 || THREAD > 0) return;
    float mean = 0;
    for (int l = 0; l <= layers; l++) {
        float sum = 0;
        for (int part = 0; part < parts; part++) sum += state[partials + l * parts + part];
        state[gradient + l] = sum;
        mean += state[a + l] * sum;
    }
    for (int l = 0; l <= layers; l++) state[gradient + l] = state[a + l] * (state[gradient + l] - mean);
}

// E11: every group's part of Σ g², added to what it has
KERNEL sumOfSquares(GLOBAL float *state, long g, long count, long partials) {
    SHARED float room[GROUP];
    float sum = 0;
    for (long i = (long)THIS_GROUP * GROUP + THREAD; i < count; i += (long)GROUPS * GROUP)
        sum += state[g + i] * state[g + i];
    sum = sumOfSlice(sum, room);
    BARRIER;
    room[THREAD] = sum;
    BARRIER;
    if (THREAD > 0) return;
    for (int slice = 1; slice < SLICES; slice++) sum += room[slice * LANES];
    state[partials + THIS_GROUP] += sum;
}

// E12
KERNEL adam(
    GLOBAL float *state, long w, long g, long m, long v, long count, float gradientScale, float rest1, float beta2,
    float rest2, float rate, float deviation, float epsilon, float kept) {
    for (long i = (long)THIS_GROUP * GROUP + THREAD; i < count; i += (long)GROUPS * GROUP) {
        float dw = gradientScale * state[g + i];
        float mean = state[m + i] + rest1 * (dw - state[m + i]);
        float square = beta2 * state[v + i] + rest2 * dw * dw;
        state[m + i] = mean;
        state[v + i] = square;
        state[w + i] = kept * state[w + i] - rate * mean / (SQRT(square) * deviation + epsilon);
    }
}
