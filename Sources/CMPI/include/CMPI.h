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
    /// The ranks of this one's machine.
    int locals;
} ranks_place;

/// How many processes a launcher (mpirun, srun) started beside and with this one; 1 where there was none. Needs no MPI.
int ranks_launched(void);

/// Begins, once in a process, where `ranks_launched` is more than one.
const char *ranks_start(ranks_place *place);
/// Ends; all ranks wait for one another.
const char *ranks_finish(void);
/// Whether this rank, which cannot go on, is to say why: the lowest of those that call this within two seconds.
int ranks_first_to_fail(void);
/// Ends every rank's process at once, with this exit status, whatever it is doing.
_Noreturn void ranks_abort(int status);

/// Bytes that go to a rank, or come from one.
typedef struct {
    int rank;
    int64_t offset, count;
} ranks_piece;

/// Sends these pieces of `from`, and receives those of `to`: from each rank in the order in which it sends them to this one, of the
/// same lengths. Every rank calls it, if with nothing to send or to receive.
const char *ranks_exchange(
    const void *from, const ranks_piece *sent, int sends, void *to, const ranks_piece *received, int receives);
