// The vector loops that Swift cannot compile for several CPUs at once.
//
// Sizes are in elements; every array is float32 and row-major; nothing may overlap unless said.
// Equations and derivations stand in FeedbackEngine/Operations, beside the Swift code that calls these.
#pragma once

#include <stddef.h>
#include <stdint.h>

// MARK: Rows

/// y = (x − mean(x)) · r, r = (var(x) + 1e-5)^-½, a row at a time; `r` receives one value a row.
void feedback_normalize(const float *x, long rows, long columns, float *y, float *r);
/// dx += r · (dy − mean(dy) − y · mean(dy · y)), a row at a time.
void feedback_normalize_backward(const float *dy, const float *y, const float *r, long rows, long columns, float *dx);
/// dh = 0 where h ≤ 0.
void feedback_relu_backward(const float *h, long count, float *dh);
/// sums[c] += Σ_r x[r · stride + c].
void feedback_add_column_sums(const float *x, long rows, long stride, long columns, float *sums);
/// m = Σ_l a[l] · x[l].
void feedback_weighted_sum(const float *const *x, const float *a, long layers, long count, float *m);
/// dx += a · dm; returns Σ dm · x.
double feedback_weighted_sum_backward(const float *dm, const float *x, float a, long count, float *dx);
/// y += x.
void feedback_add(const float *x, long count, float *y);
/// Σ x².
double feedback_sum_of_squares(const float *x, long count);
/// Cross-entropy of `rows` rows of logits: d = scale · (softmax(logits) − onehot(target)); returns Σ −log softmax(logits)[target].
/// `d` may be `logits`. A negative target has no loss and no gradient; `correct` counts the rows whose largest logit is the target's.
double feedback_cross_entropy(
    const float *logits, const int32_t *targets, long rows, long columns, float scale, float *d, long *correct);
/// Adam on one contiguous range (Operations/Optimizer.swift); newFirst = 1 − β₁, oldSecond = β₂, newSecond = 1 − β₂.
void feedback_adam(
    float *w, const float *g, float *m, float *v, long count, float gradientScale, float newFirst, float oldSecond,
    float newSecond, float stepSize, float inverseRootCorrection, float epsilon, float decay);

// MARK: Linear after LayerNorm

/// out[o, i] = scale · w[o, i] · gain[i]; folded[o] = scale · (Σ_i w[o, i] · shift[i] + bias[o]). A null gain is 1, shift 0, bias 0.
void feedback_fold(
    const float *w, const float *gain, const float *shift, const float *bias, float scale, long outputs, long inputs,
    float *out, float *folded);
/// The gradients that answer `feedback_fold`: from dw (of `out`) and db (of `folded`), in place for dw.
void feedback_unfold(
    const float *w, const float *gain, const float *shift, float scale, long outputs, long inputs, float *dw,
    const float *db, float *dgain, float *dshift);

// MARK: Attention over the memory (one row, one head)
//
// "lanes over slots":  [slots / 16][K][16]      "lanes over the head":  [slots][P], P = K rounded up to 16, the rest zero
// Rows of probabilities and of score gradients are zero for 16 elements on both sides of the visible slots.

/// Writes one head's key or value into the two layouts; either may be null.
void feedback_append(const float *x, long K, long slot, float *overSlots, float *overHead);
/// p_j = softmax_j(q · (k_j + u_j) + s_j) over start ≤ j < end; out = Σ_j p_j v_j.
void feedback_attend(
    const float *q, const float *keys, const float *values, const float *positions, long positionStride,
    const float *positionBias, long start, long end, long K, float *p, float *out);
/// ds_j = p_j · (dout · v_j − dout · out); dq = Σ_j ds_j (k_j + u_j).
void feedback_attend_backward(
    const float *dout, const float *out, const float *p, const float *keys, const float *values,
    const float *positions, long start, long end, long K, float *ds, float *dq);
/// dst[j] += Σ_t a[t, j] · b[t] for the slots j of [j0, j1); step t of [t0, t1) sees slots [before + t − window, before + t).
void feedback_gather_slots(
    const float *a, long aStride, const float *b, long bStride, long t0, long t1, long j0, long j1, long before,
    long window, long K, float *dst);
/// dst[c] += Σ_t a[t, before + t − reach + c] · b[t] for c of [0, reach): the same by distance, c = reach − offset.
void feedback_gather_offsets(
    const float *a, long aStride, const float *b, long bStride, long t0, long t1, long before, long reach, long K,
    float *dst);
/// sums[c] += Σ_t a[t, before + t − reach + c].
void feedback_sum_offsets(
    const float *a, long aStride, long t0, long t1, long before, long reach, float *sums);
