// What training over ranks needs of MPI; its own types and macros, which differ from one MPI to the next, stay outside.
//
// Calls that can fail return null, or one line that says what failed and where. They are collective: every rank calls
// the same ones in the same order, from whichever thread, one at a time (MPI_THREAD_SERIALIZED). Counts and offsets
// are in bytes and of any size. Without the package's trait `MPI` there are the declarations alone.
#pragma once

#include <stdint.h>

typedef struct {
    int rank, ranks;
    int machines;
    /// This rank among those of its machine, and their number.
    int local, locals;
    char machine[256];
} ranks_place;

/// How many processes a launcher (mpirun, srun) started beside and with this one; 1 where there was none. Needs no MPI.
int ranks_launched(void);

/// Begins, once in a process, where `ranks_launched` is more than one.
const char *ranks_start(ranks_place *place);
/// Ends; all ranks wait for one another.
const char *ranks_finish(void);
/// Ends every rank's process at once, with this exit status, whatever it is doing.
_Noreturn void ranks_abort(int status);

/// Sends rank r the bytes at `send_offsets[r]`, and receives what rank r sends at `receive_offsets[r]`.
const char *ranks_exchange(
    const void *send, const int64_t *send_counts, const int64_t *send_offsets, void *receive,
    const int64_t *receive_counts, const int64_t *receive_offsets);
/// Rank r has its own piece at `offsets[r]`; afterwards every rank has all of them.
const char *ranks_gather(void *bytes, const int64_t *counts, const int64_t *offsets);
/// Copies what rank `root` has to all.
const char *ranks_broadcast(void *bytes, int64_t count, int root);
/// Replaces each value by the smallest, or the largest, that a rank has.
const char *ranks_minimum(int64_t *values, int count);
const char *ranks_maximum(int64_t *values, int count);
/// Waits for all.
const char *ranks_barrier(void);
