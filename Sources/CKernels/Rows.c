#include "CKernels.h"
#include "Vector.h"

// Kernels of float32: the memory's sum over layers, gradients, loss and optimizer (equations in CKernels.h). Plain loops
// that the compiler vectorises; sums may be reordered, in the same way at every run.

KERNEL void feedback_weighted_sum(const float *const *x, const float *a, long layers, long count, float *m) {
    for (long i = 0; i < count; i++) m[i] = a[0] * x[0][i];
    for (long l = 1; l < layers; l++) {
        const float *from = x[l];
        for (long i = 0; i < count; i++) m[i] += a[l] * from[i];
    }
}

KERNEL double feedback_weighted_sum_backward(const float *dm, const float *x, float a, long count, float *dx) {
    REORDER_SUMS
    float dot = 0;
    for (long i = 0; i < count; i++) {
        dot += dm[i] * x[i];
        dx[i] += a * dm[i];
    }
    return dot;
}

KERNEL void feedback_add(const float *x, long count, float *y) {
    for (long i = 0; i < count; i++) y[i] += x[i];
}

KERNEL void feedback_add_scaled(const float *x, float a, long count, float *y) {
    for (long i = 0; i < count; i++) y[i] += a * x[i];
}

KERNEL double feedback_sum_of_squares(const float *x, long count) {
    REORDER_SUMS
    double total = 0;
    for (long from = 0; from < count; from += 4096) {
        const long to = from + 4096 < count ? from + 4096 : count;
        float sum = 0;
        for (long i = from; i < to; i++) sum += x[i] * x[i];
        total += sum;
    }
    return total;
}

KERNEL double feedback_cross_entropy(
    const float *logits, const int32_t *targets, long rows, long columns, float scale, float *d, long *correct) {
    double loss = 0;
    for (long row = 0; row < rows; row++, logits += columns, d += columns) {
        const int32_t target = targets[row];
        if (target < 0) {
            memset(d, 0, (size_t)columns * sizeof(float));
            continue;
        }
        long largest = 0;
        for (long c = 1; c < columns; c++)
            if (logits[c] > logits[largest]) largest = c;
        *correct += largest == target;
        const float maximum = logits[largest], own = logits[target];
        float total = 0;
        for (long c = 0; c < columns; c += 16) {
            const size_t bytes = sizeof(float) * (size_t)(columns - c < 16 ? columns - c : 16);
            v16 shifted = (v16){0} - INFINITY;
            memcpy(&shifted, logits + c, bytes);
            const v16 e = EXP16(shifted - maximum);
            memcpy(d + c, &e, bytes);
            total += SUM16(e);
        }
        loss += (double)logf(total) - (double)(own - maximum);
        const float factor = scale / total;
        for (long c = 0; c < columns; c++) d[c] *= factor;
        d[target] -= scale;
    }
    return loss;
}

KERNEL void feedback_adam(
    float *w, const float *g, float *m, float *v, long count, float gradientScale, float newFirst, float oldSecond,
    float newSecond, float stepSize, float inverseRootCorrection, float epsilon, float decay) {
    for (long i = 0; i < count; i++) {
        const float gradient = gradientScale * g[i];
        const float first = m[i] + newFirst * (gradient - m[i]);
        const float second = oldSecond * v[i] + newSecond * gradient * gradient;
        m[i] = first;
        v[i] = second;
        w[i] = w[i] * decay - stepSize * first / (sqrtf(second) * inverseRootCorrection + epsilon);
    }
}

KERNEL void feedback_fold(
    const float *w, const float *gain, const float *shift, const float *bias, float scale, long outputs, long inputs,
    float *out, float *folded) {
    REORDER_SUMS
    for (long o = 0; o < outputs; o++, w += inputs, out += inputs) {
        float sum = bias ? bias[o] : 0;
        if (gain) {
            for (long i = 0; i < inputs; i++) {
                sum += w[i] * shift[i];
                out[i] = scale * w[i] * gain[i];
            }
        } else {
            for (long i = 0; i < inputs; i++) out[i] = scale * w[i];
        }
        folded[o] = scale * sum;
    }
}

KERNEL void feedback_unfold(
    const float *w, const float *gain, const float *shift, float scale, long outputs, long inputs, float *dw,
    const float *db, long biased, float *dgain, float *dshift) {
    for (long o = biased - outputs; o < biased; o++, w += inputs, dw += inputs) {
        const float dbo = o < 0 ? 0 : db[o];
        for (long i = 0; i < inputs; i++) {
            dgain[i] += scale * w[i] * dw[i];
            dshift[i] += scale * w[i] * dbo;
            dw[i] = scale * (dw[i] * gain[i] + dbo * shift[i]);
        }
    }
}
