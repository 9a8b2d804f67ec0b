// The persistent kernel: a whole pass over a segment, forward or backward, is one launch of it
//
// The host writes a pass as a list of phases (Phases+Forward.swift and its backward counterpart): some that come once,
// then a body for every block of steps, then some that come once. All groups take part in each and meet after it.

// E1: x = E[token]
DEVICE void embed(
    const Shape *s, LOCAL const Phase *phase, int first, GLOBAL float *state, GLOBAL const int *integers) {
    for (long i = (long)THIS_GROUP * GROUP + THREAD; i < (long)phase->rows * s->width; i += (long)GROUPS * GROUP) {
        long n = first + i / s->width, column = i % s->width;
        state[phase->result + n * s->width + column] =
            state[phase->source + (long)integers[s->inputs + n] * s->width + column];
    }
}

// E10: −log softmax(z)[target], whether that is the largest, and dz = (softmax(z) − onehot(target)) · scale; a slice
// has a row
DEVICE void crossEntropy(
    const Shape *s, LOCAL const Phase *phase, int first, GLOBAL float *state, GLOBAL operand *operands,
    GLOBAL const int *integers, LOCAL float *room) {
    int lane = THREAD % LANES, slice = THREAD / LANES, V = s->vocabulary;
    for (int start = THIS_GROUP; start < phase->rows; start += GROUPS * SLICES) {
        int own = start + slice * GROUPS, on = own < phase->rows, n = first + (on ? own : 0);
        int target = integers[s->targets + n];
        GLOBAL const float *z = state + phase->source + (long)n * V;
        float largest = -INFINITY, total = 0, earlier = 0;
        for (int c = lane; c < V; c += LANES) largest = fmax(largest, z[c]);
        largest = largestOfSlice(largest, room);
        for (int c = lane; c < V; c += LANES) {
            total += EXP(z[c] - largest);
            if (c < target && z[c] == largest) earlier += 1;
        }
        total = sumOfSlice(total, room);
        earlier = sumOfSlice(earlier, room);
        if (on && lane == 0) {
            state[phase->result + n] = target < 0 ? 0 : LOG(total) - (z[target] - largest);
            state[phase->sum + n] = target >= 0 && z[target] == largest && earlier == 0;
        }
        if (on && phase->droppedSum >= 0)
            for (int c = lane; c < V; c += LANES)
                store(
                    operands + phase->droppedSum, (long)n * V + c,
                    target < 0 ? 0 : s->lossScale * (EXP(z[c] - largest) / total - (c == target)));
    }
}

KERNEL pass(
    GLOBAL float *state, GLOBAL operand *operands, GLOBAL const int *integers, GLOBAL const Phase *phases,
    volatile GLOBAL int *arrived, Shape shape) {
    SHARED operand tile[ROWS * (CHUNK + 8)];
    SHARED float room[SLICES * 256];
    SHARED float sums[4 * ROWS];
    SHARED Phase phase;
    const Shape *s = &shape;
    int total = s->before + s->body * s->blocks + s->after;
    for (int number = 0; number < total; number++) {
        int within = number - s->before, block = 0, index = number;
        if (within >= 0 && within < s->body * s->blocks) {
            block = within / s->body;
            index = s->before + within % s->body;
            if (s->backward) block = s->blocks - 1 - block;
        } else if (within >= 0) {
            index = number - s->body * (s->blocks - 1);
        }
        for (int i = THREAD; i < (int)(sizeof(Phase) / 4); i += GROUP)
            ((LOCAL int *)&phase)[i] = ((GLOBAL const int *)(phases + index))[i];
        BARRIER;
        int first = phase.first + block * phase.perStep;
        if (phase.kind == PRODUCT)
            product(s, &phase, first, state, operands, integers, tile, sums, room);
        else if (phase.kind == ATTEND)
            attend(s, &phase, first, state, operands, integers, room);
        else if (phase.kind == ATTEND_BACKWARD)
            attendBackward(s, &phase, first, state, operands, integers, room);
        else if (phase.kind == GATHER)
            gather(s, &phase, first, operands, integers);
        else if (phase.kind == EMBED)
            embed(s, &phase, first, state, integers);
        else
            crossEntropy(s, &phase, first, state, operands, integers, room);
        meet(arrived, (number + 1) * GROUPS);
    }
}
