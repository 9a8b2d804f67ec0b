// The kernels of a format together, of sources that have them all: included behind them, once a format.

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
