// oneDNN's matrix product behind one small interface, the same for its 2.x and 3.x C APIs.
//
//   destination[m, n] = relu?( source[m, k] · weights[k, n] + bias?[n] + destination? )        row-major
//
// Source and weights are float32, or bfloat16 where `narrow`; the destination likewise; sums and bias are float32.
// A product is prepared once per shape and runs on the calling thread alone. One product must not run on two threads at
// once; one packed weight matrix may be used by any number of them.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct onednn_product onednn_product;
typedef struct onednn_packed onednn_packed;

typedef struct {
    int64_t m, k, n;
    bool source_transposed;  // the source is stored [k, m]
    bool bias, relu, accumulate;
    bool narrow, narrow_destination;
} onednn_shape;

/// Makes oneDNN use only the calling thread for what this thread creates and runs. Call once in every thread.
void onednn_use_one_thread(void);

/// Prepares a product; null when oneDNN refuses it (`onednn_last_error` says why). Weights are in the layout of `like`, or
/// where that is null plain, [k, n].
onednn_product *onednn_product_create(onednn_shape shape, const onednn_packed *like);
void onednn_product_destroy(onednn_product *);
/// `weights` for the plain layout, `packed` for the packed one; the other is null. Returns 0, or oneDNN's status.
int onednn_product_run(
    onednn_product *, const void *source, const void *weights, const onednn_packed *packed, const float *bias,
    void *destination);

/// An uninitialised weight matrix [k, n] in the layout that oneDNN prefers at 16 rows; it uses the same from 1 row to
/// hundreds.
onednn_packed *onednn_packed_create(int64_t k, int64_t n, bool narrow);
/// Whether that layout is none but plain rows, as where the CPU has no AVX-512.
bool onednn_packed_is_plain(const onednn_packed *);
void onednn_packed_destroy(onednn_packed *);
/// Fills it from plain float32 weights, [n, k] where `transposed`, else [k, n]. Returns 0, or oneDNN's status.
int onednn_pack(onednn_packed *, const float *weights, bool transposed);

/// What the last failed call on this thread was, for an error message.
const char *onednn_last_error(void);
