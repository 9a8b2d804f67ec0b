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
    // One connection between two ranks would carry little more than one direction at a time.
    setenv("OMPI_MCA_btl_tcp_links", "2", 0);
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

// MARK: Exchange

// A count of MPI's is an int: what is large goes in parts.
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
    const void *from, const ranks_piece *sent, int sends, void *to, const ranks_piece *received, int receives) {
    int capacity = 0, count = 0, error = MPI_SUCCESS;
    for (int i = 0; i < sends; i++) capacity += parts(sent[i].count);
    for (int i = 0; i < receives; i++) capacity += parts(received[i].count);
    MPI_Request *requests = malloc((size_t)capacity * sizeof *requests + 1);
    for (const ranks_piece *piece = received; piece < received + receives; piece++)
        for (int64_t at = 0; at < piece->count && error == MPI_SUCCESS; at += part)
            error = MPI_Irecv(
                (char *)to + piece->offset + at, least(piece->count - at, part), MPI_BYTE, piece->rank, 0,
                MPI_COMM_WORLD, &requests[count++]);
    for (const ranks_piece *piece = sent; piece < sent + sends; piece++)
        for (int64_t at = 0; at < piece->count && error == MPI_SUCCESS; at += part)
            error = MPI_Isend(
                (const char *)from + piece->offset + at, least(piece->count - at, part), MPI_BYTE, piece->rank, 0,
                MPI_COMM_WORLD, &requests[count++]);
    const char *failed = error == MPI_SUCCESS ? wait(requests, count) : failure("MPI_Isend", error);
    free(requests);
    return failed;
}

#endif
