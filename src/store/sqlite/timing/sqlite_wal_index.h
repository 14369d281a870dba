/* Was there a commit? Answered from the shared memory of a file in WAL mode, where SQLite counts
 * its transactions (https://www.sqlite.org/walformat.html, "WAL-Index Header", iChange): a look
 * costs a read of memory, no lock, no system call, no change of thread.
 *
 * It is a hint. A change of the counter means that a transaction ended, and every transaction that
 * wrote changes it; but a recovery after a crash of another program starts from zero, so that now and
 * then the rows themselves have to be looked at. */
#ifndef STORE_SQLITE_TIMING_SQLITE_WAL_INDEX_H
#define STORE_SQLITE_TIMING_SQLITE_WAL_INDEX_H

#include <sqlite3.h>
#include <stdint.h>

/* Never equal to a value of the counter. */
enum { SQLITE_CHANGES_UNKNOWN = -1 };

/* The counter; NULL: it cannot be had. In SQLite's memory, until the connection is closed. `db` is
 * in WAL mode and has read from the file. */
const uint32_t *sqlite_wal_index_counter(sqlite3 *db);
/* On any thread. While the write lock is held, only its holder changes the counter, by one. */
int64_t sqlite_wal_index_changes(const uint32_t *counter);

#endif
