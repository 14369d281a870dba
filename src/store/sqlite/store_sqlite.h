/* The embedded event store: one SQLite file, WAL mode, shared with any program that can INSERT.
 *
 * Implements store/store.h. Other processes publish with plain SQL, in transactions of their own:
 *
 *   INSERT INTO events(topic, data) VALUES ('orders/42', '{"state":"paid"}');
 *
 * (also: type, attrs, key, created; never seq, which the file draws). A transaction of several
 * statements should be BEGIN IMMEDIATE ... COMMIT, with a busy timeout: a plain BEGIN that reads
 * first fails as soon as another connection has written. `key` travels with such a row, but only keys
 * of the broker's own publishes are checked for duplicates. AUTOINCREMENT draws the id while the one
 * write lock is held, so ids become visible in order, whichever program writes. */
#ifndef STORE_SQLITE_STORE_SQLITE_H
#define STORE_SQLITE_STORE_SQLITE_H

#include "base/err.h"
#include "store/metrics.h"
#include "store/store.h"

#include <uv.h>

struct store_sqlite_options {
    const char *path;         /* a directory, made (0700) when missing; the file is events.db */
    bool synchronous_full;    /* fsync before each acknowledgement; else power loss may cost some */
    unsigned poll_ms;         /* rows of other processes are noticed at the latest after this */
    unsigned busy_timeout_ms; /* how long an append waits for another process's transaction */
    size_t max_queue_events, max_queue_bytes;           /* appends not yet committed; 0: no bound */
    uint64_t retain_age_s, retain_events, retain_bytes; /* the first that is met; 0: no bound */
    uint64_t key_window_s;      /* how long the key of an event is remembered; 0: not at all */
    size_t event_bytes;         /* rows with more data are not delivered */
    bool no_retention;          /* another process of ours removes old events, and counts them */
    struct store_latest latest; /* who opens the file last says what it keeps */
};

/* Opens (and makes) the store, blocking; completes everything else on `loop`. Borrows `metrics`;
 * copies `opt`. `tail` and `leap` hear what happens from now on. Returns 0, or a negative UV_E* with a
 * text that names the file. */
int store_sqlite_open(const struct store_sqlite_options *opt, uv_loop_t *loop,
                      struct store_metrics *metrics, store_tail_cb tail, store_leap_cb leap,
                      void *tail_ctx, struct store **out, struct err *e);
/* Would that work in the directory `dir`, as far as a look from outside tells? Opens and makes
 * nothing. UV_EINVAL, UV_ENOTSUP, UV_ENOTDIR: not before somebody mends it; other codes: not for this
 * user, or on this machine. */
int store_sqlite_check(const char *dir, struct err *e);

#endif
