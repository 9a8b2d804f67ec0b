import FeedbackTransformer

// E5–E7: attention over the memories, with relative positions (Dai et al. 2019 as in labml's feedback transformer)
//
// Step t sees the memories j of the last M earlier steps; o = t − j = 1, 2, … says how far back a memory lies.
// The equation of the model, for one head of size K:
//
//   s_j = K^-½ ( (q + u)·k_j + q·U_o + S_o )
//
// With q̃ = K^-½ (q + u), which the query's linear map gives directly (bias u, scale K^-½), and
// S̃_o = K^-½ (S_o − u·U_o), computed once per optimizer step, the same is
//
//   forward  1   s_j = q̃·(k_j + U_o) + S̃_o                                                                        E5
//            2   p   = softmax_j s                                                                                E6
//            3   c   = Σ_j p_j v_j                                                                                E7
//   backward 3   dp_j = dc·v_j                                        dv_j += p_j dc
//            2   ds_j = p_j (dp_j − dc·c)                             as Σ_i p_i dp_i = dc·c
//            1   dq̃   = Σ_j ds_j (k_j + U_o)                          dk_j += ds_j q̃,  dŨ_o += ds_j q̃,  dS̃_o += ds_j
//   unfolding    dU_o = dŨ_o − K^-½ u dS̃_o,   dS_o = K^-½ dS̃_o,   du = K^-½ (dq̃ summed) − K^-½ Σ_o dS̃_o U_o
//
// dk, dv, dŨ and dS̃ are sums over the later steps that saw a memory. They are gathered a chunk of steps at a time, as
// small matrix products over the kept p and ds, so a backward step itself touches nothing but its own query.
//
// Shapes: queries, contexts [n·B, D] for n steps of B rows, time-major, D = H·K; keys and values in a `KeyValueCache`;
// U [reach, D] and S [reach, H], row reach − o for offset o, as in a labml checkpoint.
// Kept for the backward pass: q̃, p, c; until the chunk is done ds and dc.

/// The keys and values of B rows, and in training their gradients, for a number of memory slots given in advance.
/// Memories are appended in place, never copied.
package protocol KeyValueCache: AnyObject {
    /// The rows in use, at most as many as it was made for.
    var rows: Int { get set }
}

/// One worker's sums dŨ [H·reach, K, padded on the CPU] and dS̃ [H, reach].
package final class PositionGradients {
    let embeddings: Buffer<State>
    let bias: Buffer<State>

    init(embeddings: Buffer<State>, bias: Buffer<State>) {
        self.embeddings = embeddings
        self.bias = bias
    }
}

/// Which memories the steps of a block see: step i sees the last `window` of the `before + i` slots written before it.
package struct Visibility: Equatable, Sendable {
    let before: Int
    let window: Int

    func slots(step i: Int) -> Range<Int> { max(0, before + i - window)..<before + i }
}

/// What one layer's attention leaves for the sums over steps: ds and p [n·B·H, scoreColumns], q̃ and dc [n·B, D].
package struct AttentionGradients {
    let scores, probabilities, query, context: Matrix<Operand>
}

package protocol AttentionOperations {
    associatedtype Cache: KeyValueCache
    /// U and S̃ as the executor wants them, for offsets up to a reach.
    associatedtype Positions: Sendable
    func makeCache(rows: Int, slots: Int, heads: Int, headSize: Int, training: Bool) -> Cache
    func makePositions(heads: Int, headSize: Int, reach: Int) -> Positions
    func makePositionGradients(heads: Int, headSize: Int, reach: Int) -> PositionGradients
    /// Columns of a row of p or ds for that many slots.
    func scoreColumns(slots: Int) -> Int
    /// The column of the first slot.
    var scoreMargin: Int { get }

    /// Prepares U and S̃ = scale (S − u·U).
    func pack(
        _ positions: Positions, embeddings: Matrix<State>, bias: Matrix<State>, queryBias: Matrix<State>,
        scale: Double)
    /// Writes the keys and values [n·B, 2D] of n steps into the slots from `slot` on.
    func append(_ keysValues: Matrix<State>, to cache: Cache, slot: Int)

    /// Forward 1–3 for every step, row and head of the block; p [n·B·H, scoreColumns]. Every step must see a memory.
    func attend(
        _ q: Matrix<Operand>, _ cache: Cache, _ positions: Positions, _ visibility: Visibility,
        probabilities p: Matrix<Operand>, dropout: Dropout?, into context: Matrix<Operand>)
    /// Backward 3–1 but for the sums over steps: ds and dq.
    func attendBackward(
        _ dContext: Matrix<Operand>, context: Matrix<Operand>, probabilities p: Matrix<Operand>,
        _ cache: Cache, _ positions: Positions, _ visibility: Visibility, dropout: Dropout?,
        scoreGradients ds: Matrix<Operand>, into dq: Matrix<Operand>)

    /// dk_j += Σ_t ds_tj q̃_t and dv_j += Σ_t p_tj dc_t over the steps t of a range, for the slots j of a range, and over all
    /// the layers that read this cache. The matrices, and `visibility`, begin at step 0.
    func gather(
        _ layers: [AttentionGradients], steps: Range<Int>, slots: Range<Int>, _ visibility: Visibility,
        accumulatingInto cache: Cache)
    /// dŨ_o += Σ_t ds_t(t−o) q̃_t and dS̃_o += Σ_t ds_t(t−o) over all the matrices' steps and rows.
    func gather(
        scoreGradients ds: Matrix<Operand>, q: Matrix<Operand>, rows: Int, _ visibility: Visibility,
        accumulatingInto gradients: PositionGradients)

    /// Sets dk and dv of all slots to zero.
    func clearGradients(_ cache: Cache)
    /// The gathered dk and dv of some slots, as [slots·B, 2D].
    func keyValueGradients(_ cache: Cache, slots: Range<Int>, into dKeysValues: Matrix<Operand>)
    /// Adds dŨ [reach, D] and dS̃ [reach, H] to plain matrices and sets them to zero.
    func flush(_ gradients: PositionGradients, embeddings: Matrix<State>, bias: Matrix<State>)
    /// Turns dŨ and dS̃ into dU and dS in place, and du, which holds K^-½ Σ dq̃, into the whole du.
    func unfoldPositions(
        _ dEmbeddings: Matrix<State>, dBias: Matrix<State>, dQueryBias: Matrix<State>, embeddings: Matrix<State>,
        queryBias: Matrix<State>, scale: Double)
}
