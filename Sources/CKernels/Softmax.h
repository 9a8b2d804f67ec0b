// e_j = e^(s_j − max s) for the slots [first, last), whole vectors, as operands in `e` or, where that is null, in place
// of s; returns 1 / Σ_j e_j. Included once a format.

INLINE TARGET float exponentials(float *s, long first, long last, operand *e) {
    v16 largest = LOAD(s + first);
    for (long j = first + 16; j < last; j += 16) {
        const v16 some = LOAD(s + j);
        largest = MAX16(some, largest);
    }
    const float maximum = LARGEST(largest);
    v16 total = {0};
    for (long j = first; j < last; j += 16) {
        const v16 some = EXP16(LOAD(s + j) - maximum);
        total += some;
        if (e)
            STORE_OPERANDS(e + j, some);
        else
            STORE(s + j, some);
    }
    return 1.0f / SUM16(total);
}
