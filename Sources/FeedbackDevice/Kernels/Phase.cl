// What host and device agree on; this file is compiled for both. Offsets count numbers from the start of one of two
// arrays: `state`, always float32, and `operands`. A negative offset is none.

// The sizes of a pass, and what changes from launch to launch.
typedef struct {
    int steps, batch, width, heads, headSize, vocabulary;
    int slots;       // of a cache, which is a ring
    int reach;       // the farthest offset at which a step sees a memory
    int before, body, after;  // phases: once, at every block of steps, once
    int blocks;      // how often the body runs
    int backward;    // whether from the last block to the first
    int drops;       // whether anything is dropped
    unsigned int dropoutThreshold;
    float dropoutScale;
    float lossScale;
    unsigned long dropoutKey;
    // In `integers`: tokens [T·B] twice; of every row, how many memories it has had before, and which cache.
    long inputs, targets, counts, places;
    long layerWeights;                     // a_l, in `state`
} Shape;

enum { EMBED, PRODUCT, ATTEND, ATTEND_BACKWARD, GATHER, CROSS_ENTROPY };

// How a product reads its rows.
enum { READ_OPERAND, READ_STATE, READ_GRADIENT };
// What becomes of its result y.
enum {
    WRITE_OPERAND,
    WRITE_STATE,
    ADD_STATE,
    WRITE_RECTIFIED,
    WRITE_RESIDUAL,
    WRITE_KEYS_VALUES,
    WRITE_RECTIFIED_GRADIENT
};

// A gradient on its way into a sum: factor · dn, or, where n is given, factor · r (dn − mean dn − n mean(dn ∘ n)), E2.
typedef struct {
    long gradient;   // dn, state
    long normalized; // n, operand
    long deviation;  // r, state
    long factor;     // state
} Term;

// One phase of a pass: an operation on some rows, which all groups share.
typedef struct {
    int kind;
    int first, perStep, rows;  // rows first + step · perStep and on
    int layer, layers;   // of dropout; of a gradient's sums
    int inputs, outputs; // of a product
    int read, write;
    int readPlace, writePlace;  // of dropout; negative is none
    int attention;       // whether rows without a memory are left out
    int ofCarried;       // whether the rows are those of slots carried over, not of steps

    // A product: y = x W'ᵀ + b'
    long weight, bias;            // operand, state
    long source;                  // operand or state [N, inputs]
    long normalized, deviation;   // READ_STATE writes n and r where there is r, else a copy
    Term terms[2];                // READ_GRADIENT: source + the terms
    long sum;                     // which is kept here, state,
    long droppedSum;              // dropped here, operand,
    long lastTerm;                // and the last term, without its factor, here, state
    long result;                  // operand or state [N, outputs]
    long residual;                // state [N, outputs]
    long layerOutputs, memory;    // WRITE_RESIDUAL: x_0 …, state [layer + 1, N, outputs], and m where it is computed
    long gate;                    // h, operand

    // Attention
    // k, v and U by slot or offset, [slots, K], and across, [K, slots]; training alone has all.
    long query, keys, keysAcross, values, valuesAcross, positions, positionsAcross, positionBias;
    long probabilities, context, scratch;
    long contextGradient, scoreGradients, queryGradient;
    long layerStride, scoreStride;  // from one layer's q̃ and dc, and from one layer's p and ds, to the next's
} Phase;

// A gradient of weights: dW' += dyᵀ x, db' += Σ dy (E3), over `rows` rows. A stride is from one row to the next. What adds
// to the same weights has the same tiles, and follows, for a tile is one group's.
typedef struct {
    long delta, input, output, bias;  // operand, operand, state, state
    long deltaStride, inputStride, outputStride, biasStride;
    int rows, outputs, inputs;
    int tile;  // its first among the tiles of all
    int more;  // whether the next adds to the same weights
} WeightGradient;

// A linear map to pack and unfold (E3): W' = s W diag γ, b' = s (W β + b).
typedef struct {
    long weight, bias, gain, shift;            // in the parameters
    long packed, transposed, packedBias, biasGradient;
    int inputs, outputs, biasCount;
    int chain;   // whether the next map has the same norm: they are unfolded one after the other
    float scale;
    int unit;    // its first among the units of work of all
} Map;

// A layer's position tables (E5), rows up to the reach.
typedef struct {
    long embeddings, bias, queryBias;          // in the parameters, the row of offset 1
    long packed, packedAcross, packedBias;
} Positions;
