import CKernels

/// The C kernels on operands of one type.
struct OperandKernels: Sendable {
    let narrow: @convention(c) @Sendable (UnsafePointer<Float>?, Int, UnsafeMutableRawPointer?) -> Void
    let normalize:
        @convention(c) @Sendable (
            UnsafePointer<Float>?, Int, Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<Float>?
        ) -> Void
    let normalizeBackward:
        @convention(c) @Sendable (
            UnsafePointer<Float>?, UnsafeRawPointer?, UnsafePointer<Float>?, Int, Int, UnsafeMutablePointer<Float>?
        ) -> Void
    let rectifierBackward: @convention(c) @Sendable (UnsafeRawPointer?, Int, UnsafeMutableRawPointer?) -> Void
    let drop: @convention(c) @Sendable (UnsafeMutableRawPointer?, Int, UInt32, UInt32, Float) -> Void
    let addColumnSums: @convention(c) @Sendable (UnsafeRawPointer?, Int, Int, Int, UnsafeMutablePointer<Float>?) -> Void
    let append:
        @convention(c) @Sendable (
            UnsafePointer<Float>?, Int, Int, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?
        ) -> Void
    let scorePositions:
        @convention(c) @Sendable (
            UnsafeRawPointer?, Int, Int, UnsafeRawPointer?, Int, UnsafePointer<Float>?, Int, Int, Int,
            UnsafeMutablePointer<Float>?, Int
        ) -> Void
    let attend:
        @convention(c) @Sendable (
            UnsafeRawPointer?, UnsafeRawPointer?, UnsafeRawPointer?, UnsafePointer<Float>?, Int, Int, Int,
            UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, UInt32, UInt32, Float
        ) -> Void
    let attendBackward:
        @convention(c) @Sendable (
            UnsafeRawPointer?, UnsafeRawPointer?, UnsafeMutableRawPointer?, UnsafeRawPointer?, UnsafeRawPointer?,
            UnsafeRawPointer?, Int, Int, Int, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, Float
        ) -> Void
    let gatherSlots:
        @convention(c) @Sendable (
            UnsafeRawPointer?, Int, UnsafeRawPointer?, Int, Int, Int, Int, Int, Int, Int, Int,
            UnsafeMutablePointer<Float>?
        ) -> Void
    let gatherOffsets:
        @convention(c) @Sendable (
            UnsafeRawPointer?, Int, UnsafeRawPointer?, Int, Int, Int, Int, Int, Int, UnsafeMutablePointer<Float>?
        ) -> Void
    let sumOffsets:
        @convention(c) @Sendable (UnsafeRawPointer?, Int, Int, Int, Int, Int, UnsafeMutablePointer<Float>?) -> Void

    static let float32 = OperandKernels(
        narrow: feedback_narrow, normalize: feedback_normalize, normalizeBackward: feedback_normalize_backward,
        rectifierBackward: feedback_relu_backward, drop: feedback_drop, addColumnSums: feedback_add_column_sums,
        append: feedback_append, scorePositions: feedback_score_positions, attend: feedback_attend,
        attendBackward: feedback_attend_backward, gatherSlots: feedback_gather_slots,
        gatherOffsets: feedback_gather_offsets, sumOffsets: feedback_sum_offsets)
    static let bfloat16 = OperandKernels(
        narrow: feedback_narrow_bfloat16, normalize: feedback_normalize_bfloat16,
        normalizeBackward: feedback_normalize_backward_bfloat16, rectifierBackward: feedback_relu_backward_bfloat16,
        drop: feedback_drop_bfloat16, addColumnSums: feedback_add_column_sums_bfloat16,
        append: feedback_append_bfloat16, scorePositions: feedback_score_positions_bfloat16,
        attend: feedback_attend_bfloat16, attendBackward: feedback_attend_backward_bfloat16,
        gatherSlots: feedback_gather_slots_bfloat16, gatherOffsets: feedback_gather_offsets_bfloat16,
        sumOffsets: feedback_sum_offsets_bfloat16)
}
