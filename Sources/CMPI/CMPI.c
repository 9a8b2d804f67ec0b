#include "CMPI.h"

// SwiftPM compiles every target of the package that is built, needed or not: only the trait includes mpi.h.
#ifdef MPI

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int rank, ranks;
static char machine[MPI_MAX_PROCESSOR_NAME];
static char line[MPI_MAX_PROCESSOR_NAME + MPI_MAX_ERROR_STRING + 64];

static const char *failure(const char *call, int error) {
    char reason[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (MPI_Error_string(error, reason, &length) != MPI_SUCCESS) length = 0;
    reason[length] = 0;
    for (char *c = reason; *c; c++)
        if (*c == '\n') *c = ' ';
    snprintf(line, sizeof line, "rank %d on %s: %s failed: %s", rank, machine, call, reason);
    return line;
}

#define TRY(call, ...)                                                                                                 \
    do {                                                                                                               \
        int error = call(__VA_ARGS__);                                                                                 \
        if (error != MPI_SUCCESS) return failure(#call, error);                                                        \
    } while (0)

// MARK: Beginning and end

int ranks_launched(void) {
    // Open MPI's mpirun, MPICH's and its likes, srun. Under srun, mpirun sets its own beside srun's.
    static const char *const counts[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    for (int i = 0; i < 3; i++) {
        const char *count = getenv(counts[i]);
        if (count) return atoi(count);
    }
    return 1;
}

const char *ranks_start(ranks_place *place) {
    int level = 0, length = 0, first;
    strcpy(machine, "this machine");
    TRY(MPI_Init_thread, NULL, NULL, MPI_THREAD_SERIALIZED, &level);
    if (level < MPI_THREAD_SERIALIZED) return "this MPI was built without threads: MPI_THREAD_SERIALIZED is needed";
    TRY(MPI_Comm_set_errhandler, MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    TRY(MPI_Comm_set_errhandler, MPI_COMM_SELF, MPI_ERRORS_RETURN);
    TRY(MPI_Comm_rank, MPI_COMM_WORLD, &rank);
    TRY(MPI_Comm_size, MPI_COMM_WORLD, &ranks);
    TRY(MPI_Get_processor_name, machine, &length);
    if (ranks != ranks_launched()) {
        char library[MPI_MAX_LIBRARY_VERSION_STRING];
        TRY(MPI_Get_library_version, library, &length);
        library[strcspn(library, ",:\n")] = 0;
        snprintf(
            line, sizeof line, "%d processes were started, but MPI sees %d: start them with the mpirun of %.64s",
            ranks_launched(), ranks, library);
        return line;
    }

    *place = (ranks_place){.rank = rank, .ranks = ranks};
    snprintf(place->machine, sizeof place->machine, "%s", machine);
    MPI_Comm neighbours;
    TRY(MPI_Comm_split_type, MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &neighbours);
    TRY(MPI_Comm_rank, neighbours, &place->local);
    TRY(MPI_Comm_size, neighbours, &place->locals);
    TRY(MPI_Comm_free, &neighbours);
    first = place->local == 0;
    TRY(MPI_Allreduce, &first, &place->machines, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    return NULL;
}

const char *ranks_finish(void) {
    TRY(MPI_Finalize);
    return NULL;
}

void ranks_abort(int status) {
    MPI_Abort(MPI_COMM_WORLD, status);
    abort();
}

// MARK: Many bytes

// A count of MPI's is an int, and so are the offsets of its all-to-all: what is large goes from rank to rank in parts.
static const int64_t part = 1 << 30;

static int parts(int64_t count) { return (int)((count + part - 1) / part); }
static int least(int64_t a, int64_t b) { return (int)(a < b ? a : b); }

static const char *wait(MPI_Request *requests, int count) {
    MPI_Status *statuses = malloc((size_t)count * sizeof *statuses);
    int error = MPI_Waitall(count, requests, statuses);
    for (int i = 0; error == MPI_ERR_IN_STATUS && i < count; i++)
        if (statuses[i].MPI_ERROR != MPI_SUCCESS && statuses[i].MPI_ERROR != MPI_ERR_PENDING)
            error = statuses[i].MPI_ERROR;
    free(statuses);
    return error == MPI_SUCCESS ? NULL : failure("MPI_Waitall", error);
}

const char *ranks_exchange(
    const void *send, const int64_t *send_counts, const int64_t *send_offsets, void *receive,
    const int64_t *receive_counts, const int64_t *receive_offsets) {
    int capacity = 0, count = 0;
    for (int r = 0; r < ranks; r++) capacity += parts(send_counts[r]) + parts(receive_counts[r]);
    MPI_Request *requests = malloc((size_t)capacity * sizeof *requests);
    int error = MPI_SUCCESS;
    // Everybody begins with its neighbour, so that no rank is sent everything at once.
    for (int step = 1; step < ranks; step++) {
        int from = (rank + ranks - step) % ranks;
        char *to = (char *)receive + receive_offsets[from];
        for (int64_t at = 0; at < receive_counts[from] && error == MPI_SUCCESS; at += part)
            error = MPI_Irecv(
                to + at, least(receive_counts[from] - at, part), MPI_BYTE, from, 0, MPI_COMM_WORLD, &requests[count++]);
    }
    for (int step = 1; step < ranks; step++) {
        int to = (rank + step) % ranks;
        const char *from = (const char *)send + send_offsets[to];
        for (int64_t at = 0; at < send_counts[to] && error == MPI_SUCCESS; at += part)
            error = MPI_Isend(
                from + at, least(send_counts[to] - at, part), MPI_BYTE, to, 0, MPI_COMM_WORLD, &requests[count++]);
    }
    // A rank's own piece; in ranks_gather it is where it belongs.
    memmove(
        (char *)receive + receive_offsets[rank], (const char *)send + send_offsets[rank], (size_t)send_counts[rank]);
    const char *failed = error == MPI_SUCCESS ? wait(requests, count) : failure("MPI_Isend", error);
    free(requests);
    return failed;
}

const char *ranks_gather(void *bytes, const int64_t *counts, const int64_t *offsets) {
    int64_t *own = malloc(2 * (size_t)ranks * sizeof *own);
    for (int r = 0; r < ranks; r++) own[r] = counts[rank], own[ranks + r] = offsets[rank];
    const char *failed = ranks_exchange(bytes, own, own + ranks, bytes, counts, offsets);
    free(own);
    return failed;
}

const char *ranks_broadcast(void *bytes, int64_t count, int root) {
    for (int64_t at = 0; at < count; at += part)
        TRY(MPI_Bcast, (char *)bytes + at, least(count - at, part), MPI_BYTE, root, MPI_COMM_WORLD);
    return NULL;
}

// MARK: Few values

const char *ranks_minimum(int64_t *values, int count) {
    TRY(MPI_Allreduce, MPI_IN_PLACE, values, count, MPI_INT64_T, MPI_MIN, MPI_COMM_WORLD);
    return NULL;
}

const char *ranks_maximum(int64_t *values, int count) {
    TRY(MPI_Allreduce, MPI_IN_PLACE, values, count, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    return NULL;
}

const char *ranks_barrier(void) {
    TRY(MPI_Barrier, MPI_COMM_WORLD);
    return NULL;
}

#endif
