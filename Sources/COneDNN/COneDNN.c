#include "COneDNN.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define V3 (DNNL_VERSION_MAJOR >= 3)

// MARK: What differs between 2.x and 3.x: descriptors are values in one, objects in the other

#if V3
typedef dnnl_memory_desc_t descriptor;
typedef const_dnnl_memory_desc_t const_descriptor;
static void release(descriptor d) {
    if (d) dnnl_memory_desc_destroy(d);
}
static dnnl_status_t describe(descriptor *d, const dnnl_dims_t dims, const dnnl_dims_t strides, dnnl_data_type_t type) {
    return strides ? dnnl_memory_desc_create_with_strides(d, 2, dims, type, strides)
                   : dnnl_memory_desc_create_with_tag(d, 2, dims, type, dnnl_format_tag_any);
}
static dnnl_status_t copy(descriptor *to, const_dnnl_memory_desc_t from) { return dnnl_memory_desc_clone(to, from); }
static dnnl_status_t matmul(
    dnnl_primitive_desc_t *prepared, descriptor source, descriptor weights, descriptor *bias, descriptor destination,
    dnnl_primitive_attr_t attributes, dnnl_engine_t cpu) {
    return dnnl_matmul_primitive_desc_create(
        prepared, cpu, source, weights, bias ? *bias : NULL, destination, attributes);
}
#define CONST(d) (d)
#define SUM_TYPE , 0, dnnl_f32
#define RELU_SCALE
#else
typedef dnnl_memory_desc_t descriptor;
typedef const dnnl_memory_desc_t *const_descriptor;
static void release(descriptor d) { (void)d; }
static dnnl_status_t describe(descriptor *d, const dnnl_dims_t dims, const dnnl_dims_t strides, dnnl_data_type_t type) {
    return strides ? dnnl_memory_desc_init_by_strides(d, 2, dims, type, strides)
                   : dnnl_memory_desc_init_by_tag(d, 2, dims, type, dnnl_format_tag_any);
}
static dnnl_status_t copy(descriptor *to, const dnnl_memory_desc_t *from) {
    *to = *from;
    return dnnl_success;
}
static dnnl_status_t matmul(
    dnnl_primitive_desc_t *prepared, descriptor source, descriptor weights, descriptor *bias, descriptor destination,
    dnnl_primitive_attr_t attributes, dnnl_engine_t cpu) {
    dnnl_matmul_desc_t operation;
    const dnnl_status_t status = dnnl_matmul_desc_init(&operation, &source, &weights, bias, &destination);
    return status ? status : dnnl_primitive_desc_create(prepared, &operation, attributes, cpu, NULL);
}
#define CONST(d) (&(d))
#define SUM_TYPE
#define RELU_SCALE 1,
#endif

struct onednn_packed {
    int64_t k, n;
    descriptor layout;
    bool is_plain;
    dnnl_memory_t memory;
};

struct onednn_product {
    onednn_shape shape;
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    dnnl_memory_t source, weights, bias, destination, scratch;
};

static _Thread_local char last_error[160];
const char *onednn_last_error(void) { return last_error; }

static dnnl_status_t check(dnnl_status_t status, const char *call) {
    if (status != dnnl_success)
        snprintf(last_error, sizeof last_error, "oneDNN: %s returned status %d", call, (int)status);
    return status;
}
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        status = check((call), #call);                                                                                 \
        if (status != dnnl_success) goto failed;                                                                       \
    } while (0)

// oneDNN takes its thread count from OpenMP's setting for the calling thread. Builds without OpenMP have no such call.
static void (*omp_set_num_threads)(int);
static void find_omp(void) { omp_set_num_threads = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads"); }
void onednn_use_one_thread(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_omp);
    if (omp_set_num_threads) omp_set_num_threads(1);
}

static dnnl_engine_t the_engine;
static dnnl_status_t engine_status;
static void create_engine(void) { engine_status = dnnl_engine_create(&the_engine, dnnl_cpu, 0); }
static dnnl_status_t engine(dnnl_engine_t *out) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, create_engine);
    *out = the_engine;
    return engine_status;
}

onednn_product *onednn_product_create(onednn_shape shape, const onednn_packed *like) {
    dnnl_status_t status;
    dnnl_engine_t cpu;
    dnnl_primitive_desc_t prepared = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t post = NULL;
    descriptor source = {0}, weights = {0}, bias = {0}, destination = {0}, scratch = {0};
    const int64_t m = shape.m, k = shape.k, n = shape.n;
    const dnnl_data_type_t operand = shape.narrow ? dnnl_bf16 : dnnl_f32;
    const dnnl_data_type_t result = shape.narrow_destination ? dnnl_bf16 : dnnl_f32;
    onednn_product *product = calloc(1, sizeof *product);
    if (!product) return NULL;
    product->shape = shape;
    TRY(engine(&cpu));
    TRY(describe(
        &source, (dnnl_dims_t){m, k}, shape.source_transposed ? (dnnl_dims_t){1, m} : (dnnl_dims_t){k, 1}, operand));
    TRY(describe(&bias, (dnnl_dims_t){1, n}, (dnnl_dims_t){n, 1}, dnnl_f32));
    TRY(describe(&destination, (dnnl_dims_t){m, n}, (dnnl_dims_t){n, 1}, result));
    if (like)
        TRY(copy(&weights, CONST(like->layout)));
    else
        TRY(describe(&weights, (dnnl_dims_t){k, n}, (dnnl_dims_t){n, 1}, operand));

    TRY(dnnl_primitive_attr_create(&attributes));
    TRY(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user));
    TRY(dnnl_post_ops_create(&post));
    if (shape.accumulate) TRY(dnnl_post_ops_append_sum(post, 1 SUM_TYPE));
    if (shape.relu) TRY(dnnl_post_ops_append_eltwise(post, RELU_SCALE dnnl_eltwise_relu, 0, 0));
    TRY(dnnl_primitive_attr_set_post_ops(attributes, post));
    TRY(matmul(&prepared, source, weights, shape.bias ? &bias : NULL, destination, attributes, cpu));
    TRY(dnnl_primitive_create(&product->primitive, prepared));
    TRY(copy(&scratch, dnnl_primitive_desc_query_md(prepared, dnnl_query_scratchpad_md, 0)));
    TRY(dnnl_stream_create(&product->stream, cpu, dnnl_stream_default_flags));
    TRY(dnnl_memory_create(&product->source, CONST(source), cpu, DNNL_MEMORY_NONE));
    TRY(dnnl_memory_create(&product->bias, CONST(bias), cpu, DNNL_MEMORY_NONE));
    TRY(dnnl_memory_create(&product->destination, CONST(destination), cpu, DNNL_MEMORY_NONE));
    TRY(dnnl_memory_create(&product->scratch, CONST(scratch), cpu, DNNL_MEMORY_ALLOCATE));
    if (!like) TRY(dnnl_memory_create(&product->weights, CONST(weights), cpu, DNNL_MEMORY_NONE));
    goto done;
failed:
    onednn_product_destroy(product);
    product = NULL;
done:
    release(source), release(weights), release(bias), release(destination), release(scratch);
    if (post) dnnl_post_ops_destroy(post);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    if (prepared) dnnl_primitive_desc_destroy(prepared);
    return product;
}

void onednn_product_destroy(onednn_product *product) {
    if (!product) return;
    if (product->primitive) dnnl_primitive_destroy(product->primitive);
    if (product->stream) dnnl_stream_destroy(product->stream);
    if (product->source) dnnl_memory_destroy(product->source);
    if (product->weights) dnnl_memory_destroy(product->weights);
    if (product->bias) dnnl_memory_destroy(product->bias);
    if (product->destination) dnnl_memory_destroy(product->destination);
    if (product->scratch) dnnl_memory_destroy(product->scratch);
    free(product);
}

int onednn_product_run(
    onednn_product *product, const void *source, const void *weights, const onednn_packed *packed, const float *bias,
    void *destination) {
    dnnl_status_t status;
    TRY(dnnl_memory_set_data_handle(product->source, (void *)source));
    TRY(dnnl_memory_set_data_handle(product->destination, destination));
    if (product->shape.bias) TRY(dnnl_memory_set_data_handle(product->bias, (void *)bias));
    if (!packed) TRY(dnnl_memory_set_data_handle(product->weights, (void *)weights));
    const dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, product->source},      {DNNL_ARG_WEIGHTS, packed ? packed->memory : product->weights},
        {DNNL_ARG_DST, product->destination}, {DNNL_ARG_SCRATCHPAD, product->scratch},
        {DNNL_ARG_BIAS, product->bias},
    };
    TRY(dnnl_primitive_execute(product->primitive, product->stream, product->shape.bias ? 5 : 4, arguments));
failed:
    return status;
}

// MARK: Packed weights

onednn_packed *onednn_packed_create(int64_t k, int64_t n, bool narrow) {
    dnnl_status_t status;
    dnnl_engine_t cpu;
    dnnl_primitive_desc_t prepared = NULL;
    descriptor source = {0}, any = {0}, plain = {0}, destination = {0};
    const dnnl_data_type_t operand = narrow ? dnnl_bf16 : dnnl_f32;
    const int64_t m = 16;
    onednn_packed *packed = calloc(1, sizeof *packed);
    if (!packed) return NULL;
    packed->k = k;
    packed->n = n;
    TRY(engine(&cpu));
    TRY(describe(&source, (dnnl_dims_t){m, k}, (dnnl_dims_t){k, 1}, operand));
    TRY(describe(&any, (dnnl_dims_t){k, n}, NULL, operand));
    TRY(describe(&plain, (dnnl_dims_t){k, n}, (dnnl_dims_t){n, 1}, operand));
    TRY(describe(&destination, (dnnl_dims_t){m, n}, (dnnl_dims_t){n, 1}, dnnl_f32));
    TRY(matmul(&prepared, source, any, NULL, destination, NULL, cpu));
    const_descriptor preferred = dnnl_primitive_desc_query_md(prepared, dnnl_query_weights_md, 0);
    packed->is_plain = dnnl_memory_desc_equal(preferred, CONST(plain));
    TRY(copy(&packed->layout, preferred));
    TRY(dnnl_memory_create(&packed->memory, CONST(packed->layout), cpu, DNNL_MEMORY_ALLOCATE));
    goto done;
failed:
    onednn_packed_destroy(packed);
    packed = NULL;
done:
    release(source), release(any), release(plain), release(destination);
    if (prepared) dnnl_primitive_desc_destroy(prepared);
    return packed;
}

void onednn_packed_destroy(onednn_packed *packed) {
    if (!packed) return;
    if (packed->memory) dnnl_memory_destroy(packed->memory);
    release(packed->layout);
    free(packed);
}

bool onednn_packed_is_plain(const onednn_packed *packed) { return packed->is_plain; }

int onednn_pack(onednn_packed *packed, const float *weights, bool transposed) {
    dnnl_status_t status;
    dnnl_engine_t cpu;
    descriptor plain = {0};
    dnnl_memory_t from = NULL;
    dnnl_primitive_desc_t prepared = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_stream_t stream = NULL;
    const int64_t k = packed->k, n = packed->n;
    TRY(engine(&cpu));
    TRY(describe(&plain, (dnnl_dims_t){k, n}, transposed ? (dnnl_dims_t){1, k} : (dnnl_dims_t){n, 1}, dnnl_f32));
    TRY(dnnl_memory_create(&from, CONST(plain), cpu, (void *)weights));
    TRY(dnnl_reorder_primitive_desc_create(&prepared, CONST(plain), cpu, CONST(packed->layout), cpu, NULL));
    TRY(dnnl_primitive_create(&reorder, prepared));
    TRY(dnnl_stream_create(&stream, cpu, dnnl_stream_default_flags));
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, packed->memory}};
    TRY(dnnl_primitive_execute(reorder, stream, 2, arguments));
failed:
    release(plain);
    if (stream) dnnl_stream_destroy(stream);
    if (reorder) dnnl_primitive_destroy(reorder);
    if (prepared) dnnl_primitive_desc_destroy(prepared);
    if (from) dnnl_memory_destroy(from);
    return status;
}
