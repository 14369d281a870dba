/* Private to store_sqlite.c and the parts of the class: sqlite_jobs.c, sqlite_reads.c. The store as
 * the loop thread sees it.
 *
 * While `busy`, the writer belongs to its thread; while a reader has a job, it belongs to a thread
 * of libuv's pool. Everything else is touched by the loop thread only. */
#ifndef STORE_SQLITE_STORE_SQLITE_STATE_H
#define STORE_SQLITE_STORE_SQLITE_STATE_H

#include "store/sqlite/sqlite_reader.h"
#include "store/sqlite/sqlite_writer.h"
#include "store/sqlite/store_sqlite.h"
#include "store/sqlite/timing/sqlite_group_wait.h"
#include "store/sqlite/timing/sqlite_thread.h"
#include "store/sqlite/timing/sqlite_watch.h"

/* A caller of sync() that waits for its answer. */
struct sqlite_asker {
    struct list node;
    store_sync_cb cb;
    void *ctx;
    uint64_t token;
};

/* Kinds of faults. Each lasts until work of the same kind succeeds. */
enum sqlite_fault { SQLITE_FAULT_WRITE, SQLITE_FAULT_TAIL, SQLITE_FAULT_READ, SQLITE_FAULT_COUNT };

/* What the log has said about a fault. */
struct sqlite_outage {
    uint64_t since_ms, line_ms; /* loop time: when it began; of the last line about this kind */
    bool said;
};

struct store_sqlite {
    struct store base; /* first */
    uv_loop_t *loop;
    struct store_sqlite_options opt;
    char *path; /* owned; of `opt` */
    struct store_metrics *metrics;
    store_tail_cb tail;
    store_leap_cb leap;
    void *tail_ctx;

    uint64_t head, trimmed;
    struct sqlite_leaps leaps;
    bool leap_has_rows; /* the last leap is over a state that was restored */
    uint64_t rows;      /* in the table, once `counted`; before, those counted so far */
    bool counted, counting;
    uint64_t count_upto; /* a reader counts the rows up to this id, the tail those after it */
    uint64_t file_bytes;
    uint64_t reported; /* bad rows up to here were logged */
    struct err faults[SQLITE_FAULT_COUNT];
    struct sqlite_outage outages[SQLITE_FAULT_COUNT];
    char detail[1200]; /* for health(); empty: all is well */

    /* the writer and its queue */
    struct sqlite_writer writer;
    struct sqlite_thread thread;
    bool busy;
    struct append_queue queue;
    struct sqlite_group_wait group_wait;
    struct event **scratch; /* owned: the events of one call of `tail` */
    size_t scratch_cap;

    /* when to look for rows of others, and when to retain */
    struct sqlite_watch watch;
    uv_timer_t check_timer, retain_timer;
    unsigned wake_ms;        /* until the next look, growing up to poll_ms */
    uint64_t read_ms;        /* loop time when rows, not the counter, were last looked at */
    unsigned ticks;          /* of the retention timer since it last ran */
    bool foreign_write_seen; /* others may have written while a job ran */
    bool check_due, catching_up;
    bool woken;         /* others have committed: look now instead of when the timer fires */
    struct list askers; /* sqlite_asker: of the next look */
    struct list asking; /* of the one that runs */
    bool retain_due, retain_hot;
    struct sqlite_erase *erase;      /* owned: the order that is under way; NULL: none */
    struct store_presence *presence; /* borrowed: what is asked of it; NULL: nothing */
    bool fold_due;                   /* store.latest lags behind by much, or a read waits for it */
    bool other_last;     /* the last job was neither for appends nor a look: those come first now */
    unsigned other_turn; /* the last of such kinds */

    /* readers */
    struct sqlite_reader readers[SQLITE_READERS];
    struct list reads;  /* sqlite_read */
    struct list behind; /* the same: they wait until store.latest has come to where they read */

    bool closing;
    unsigned handles; /* open */
    void (*done)(void *ctx);
    void *done_ctx;
};

/* sqlite_jobs.c */
void sqlite_jobs_wake(struct store_sqlite *s); /* looks for rows of others as soon as possible */
void sqlite_jobs_start_next(struct store_sqlite *s); /* starts the next writer job, if any is due */
int sqlite_jobs_start(struct store_sqlite *s);       /* thread, timers and watch; 0 or UV_E* */
void sqlite_jobs_stop(struct store_sqlite *s);

/* sqlite_reads.c */
void sqlite_reads_push(struct store_sqlite *s, struct sqlite_read *r); /* takes `r` */
bool sqlite_reads_idle(const struct store_sqlite *s);
/* Those that wait for store.latest look again, or are answered UV_EAGAIN. */
void sqlite_reads_on_fold(struct store_sqlite *s, bool done);
void sqlite_reads_count(struct store_sqlite *s); /* counts the rows again */

/* store_sqlite.c */
void store_sqlite_fault(struct store_sqlite *s, enum sqlite_fault which, const struct err *e);
void store_sqlite_well(struct store_sqlite *s, enum sqlite_fault which);
void store_sqlite_rejects(struct store_sqlite *s, const struct sqlite_rejects *rejects, bool tail);
void store_sqlite_finish(struct store_sqlite *s); /* the file is closed: the handles follow */

#endif
