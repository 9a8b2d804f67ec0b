#include "CMPI.h"

// SwiftPM compiles every target of the package that is built, needed or not: only the trait includes mpi.h.
#ifdef MPI

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
    int level = 0, length = 0, local, first;
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
        // "Open MPI v4.1.4, …", "MPICH Version:\t4.0.2 …".
        library[strcspn(library, ",:\n")] = 0;
        if (strstr(library, " Version")) *strstr(library, " Version") = 0;
        snprintf(
            line, sizeof line, "%d processes were started, but MPI sees %d: start them with the mpirun of %.64s",
            ranks_launched(), ranks, library);
        return line;
    }

    *place = (ranks_place){.rank = rank, .ranks = ranks};
    MPI_Comm neighbours;
    TRY(MPI_Comm_split_type, MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &neighbours);
    TRY(MPI_Comm_rank, neighbours, &local);
    TRY(MPI_Comm_size, neighbours, &place->locals);
    TRY(MPI_Comm_free, &neighbours);
    first = local == 0;
    TRY(MPI_Allreduce, &first, &place->machines, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    return NULL;
}

const char *ranks_finish(void) {
    TRY(MPI_Finalize);
    return NULL;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int ranks_first_to_fail(void) {
    int preceded = 0;
    MPI_Request request;
    for (int other = rank + 1; other < ranks; other++)
        if (MPI_Isend(NULL, 0, MPI_BYTE, other, 1, MPI_COMM_WORLD, &request) == MPI_SUCCESS) MPI_Request_free(&request);
    for (double start = now(); rank > 0 && !preceded && now() - start < 2; usleep(1000))
        MPI_Iprobe(MPI_ANY_SOURCE, 1, MPI_COMM_WORLD, &preceded, MPI_STATUS_IGNORE);
    return !preceded;
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

// For how many seconds nothing may come of any rank. A rank may be reading its text, or saving, for long. MPI itself waits for
// ever for one that hangs, or whose machine is out of reach.
static const double patience = 600;

// Says which ranks have not come.
static const char *absence(const MPI_Request *requests, const int *peers, int count) {
    int length = snprintf(
        line, sizeof line, "rank %d on %s: nothing for %.0f minutes from rank", rank, machine, patience / 60);
    for (int i = 0; i < count && length + 16 < (int)sizeof line; i++) {
        int isNew = requests[i] != MPI_REQUEST_NULL;
        for (int j = 0; j < i && isNew; j++) isNew = requests[j] == MPI_REQUEST_NULL || peers[j] != peers[i];
        if (isNew) length += snprintf(line + length, sizeof line - (size_t)length, " %d", peers[i]);
    }
    return line;
}

// Waits for requests that are to or from these ranks.
static const char *wait(MPI_Request *requests, const int *peers, int count) {
    int *done = malloc((size_t)count * sizeof *done + 1), left = count, error = MPI_SUCCESS;
    MPI_Status *statuses = malloc((size_t)count * sizeof *statuses + 1);
    const char *failed = NULL;
    double waited = 0;
    for (double before = now(), time; left > 0 && !failed; before = time) {
        int some = 0;
        error = MPI_Testsome(count, requests, &some, done, statuses);
        for (int i = 0; error == MPI_ERR_IN_STATUS && i < some; i++)
            if (statuses[i].MPI_ERROR != MPI_SUCCESS) error = statuses[i].MPI_ERROR;
        if (error != MPI_SUCCESS) failed = failure("MPI_Testsome", error);
        left -= some;
        time = now();
        // The time in which this process was stopped itself does not count.
        waited = some > 0 ? 0 : waited + (time - before < 1 ? time - before : 1);
        if (waited > patience) failed = absence(requests, peers, count);
        // Ranks may share a core.
        if (some == 0) sched_yield();
    }
    free(done);
    free(statuses);
    return failed;
}

const char *ranks_exchange(
    const void *from, const ranks_piece *sent, int sends, void *to, const ranks_piece *received, int receives) {
    int capacity = 0, count = 0, error = MPI_SUCCESS;
    for (int i = 0; i < sends; i++) capacity += parts(sent[i].count);
    for (int i = 0; i < receives; i++) capacity += parts(received[i].count);
    MPI_Request *requests = malloc((size_t)capacity * sizeof *requests + 1);
    int *peers = malloc((size_t)capacity * sizeof *peers + 1);
    const char *call = "MPI_Irecv";
    for (const ranks_piece *piece = received; piece < received + receives; piece++)
        for (int64_t at = 0; at < piece->count && error == MPI_SUCCESS; at += part) {
            peers[count] = piece->rank;
            error = MPI_Irecv(
                (char *)to + piece->offset + at, least(piece->count - at, part), MPI_BYTE, piece->rank, 0,
                MPI_COMM_WORLD, &requests[count++]);
        }
    if (error == MPI_SUCCESS) call = "MPI_Isend";
    for (const ranks_piece *piece = sent; piece < sent + sends; piece++)
        for (int64_t at = 0; at < piece->count && error == MPI_SUCCESS; at += part) {
            peers[count] = piece->rank;
            error = MPI_Isend(
                (const char *)from + piece->offset + at, least(piece->count - at, part), MPI_BYTE, piece->rank, 0,
                MPI_COMM_WORLD, &requests[count++]);
        }
    const char *failed = error == MPI_SUCCESS ? wait(requests, peers, count) : failure(call, error);
    free(requests);
    free(peers);
    return failed;
}

#endif
