// Rows of operands: normalisation, rectifier, sums of columns and dropout (equations in CKernels.h). Included once a
// format. Plain loops that the compiler vectorises; sums may be reordered, in the same way at every run.

KERNEL_TARGET static void narrow(const float *restrict x, long count, void *restrict out) {
    operand *y = (operand *)out;
    for (long i = 0; i < count; i++) y[i] = (operand)x[i];
}

KERNEL_TARGET static void normalize(const float *x, long rows, long columns, void *out, float *r) {
    REORDER_SUMS
    operand *y = (operand *)out;
    for (long row = 0; row < rows; row++, x += columns, y += columns) {
        float sum = 0, squares = 0;
        for (long c = 0; c < columns; c++) sum += x[c];
        const float mean = sum / (float)columns;
        for (long c = 0; c < columns; c++) squares += (x[c] - mean) * (x[c] - mean);
        const float inverse = 1.0f / sqrtf(squares / (float)columns + 1e-5f);
        for (long c = 0; c < columns; c++) y[c] = (operand)((x[c] - mean) * inverse);
        r[row] = inverse;
    }
}

KERNEL_TARGET static void normalize_backward(
    const float *dy, const void *normalized, const float *r, long rows, long columns, float *dx) {
    REORDER_SUMS
    const operand *y = (const operand *)normalized;
    for (long row = 0; row < rows; row++, dy += columns, y += columns, dx += columns) {
        float sum = 0, dot = 0;
        for (long c = 0; c < columns; c++) {
            sum += dy[c];
            dot += dy[c] * (float)y[c];
        }
        sum /= (float)columns;
        dot /= (float)columns;
        const float inverse = r[row];
        for (long c = 0; c < columns; c++) dx[c] += inverse * (dy[c] - sum - (float)y[c] * dot);
    }
}

KERNEL_TARGET static void rectifier_backward(const void *hidden, long count, void *gradient) {
    const operand *h = (const operand *)hidden;
    operand *dh = (operand *)gradient;
    for (long i = 0; i < count; i++) dh[i] = (float)h[i] > 0 ? dh[i] : (operand)0;
}

KERNEL_TARGET static void add_column_sums(const void *matrix, long rows, long stride, long columns, float *sums) {
    const operand *x = (const operand *)matrix;
    for (long row = 0; row < rows; row++)
        for (long c = 0; c < columns; c++) sums[c] += (float)x[row * stride + c];
}

KERNEL_TARGET static void drop(void *matrix, long columns, uint32_t key, uint32_t threshold, float scale) {
    operand *x = (operand *)matrix;
    for (long c = 0; c < columns; c++)
        x[c] = feedback_hash(key, (uint32_t)c) < threshold ? (operand)0 : (operand)(scale * (float)x[c]);
}

// All kernels of the format: those above are the last.
static feedback_kernels training_kernels(void) {
    return (feedback_kernels){
        .narrow = narrow,
        .normalize = normalize,
        .normalizeBackward = normalize_backward,
        .rectifierBackward = rectifier_backward,
        .addColumnSums = add_column_sums,
        .drop = drop,
        .append = append,
        .scorePositions = score_positions,
        .attend = attend,
        .attendBackward = attend_backward,
        .gatherSlots = gather_slots,
        .gatherOffsets = gather_offsets,
        .sumOffsets = sum_offsets,
        .multiply = multiply,
        .attendDecoding = attend_decoding,
    };
}
