/* The SQLite store as the loop thread sees it; private to store/.
 *
 * While `busy`, the writer belongs to its thread; while a reader has a job, it belongs to a thread
 * of libuv's pool. Everything else is touched by the loop thread only. */
#ifndef STORE_SQLITE_SQLITE_STORE_H
#define STORE_SQLITE_SQLITE_STORE_H

#include "store/sqlite/sqlite_gather.h"
#include "store/sqlite/sqlite_reader.h"
#include "store/sqlite/sqlite_thread.h"
#include "store/sqlite/sqlite_watch.h"
#include "store/sqlite/sqlite_writer.h"
#include "store/sqlite/store_sqlite.h"

/* A question of sync(). */
struct sqlite_asker {
    struct list node;
    store_sync_cb cb;
    void *ctx;
    uint64_t token;
};

/* What can be wrong, each until the same kind of work succeeds. */
enum sqlite_fault { SQLITE_FAULT_WRITE, SQLITE_FAULT_TAIL, SQLITE_FAULT_READ, SQLITE_FAULT_COUNT };

/* What the log was told of it. */
struct sqlite_outage {
    uint64_t since_ms, line_ms; /* loop time: when it began; of the last line about this kind */
    bool said;
};

struct sqlite_store {
    struct store base; /* first */
    uv_loop_t *loop;
    struct store_sqlite_options opt;
    char *path; /* owned; of `opt` */
    struct broker_metrics *metrics;
    store_tail_cb tail;
    store_leap_cb leap;
    void *tail_ctx;

    uint64_t head, trimmed;
    struct sqlite_leaps leaps;
    bool leap_has_rows; /* the last leap is over a state that was restored */
    uint64_t rows;      /* held, once `counted`; else counted so far */
    bool counted, counting;
    uint64_t count_upto; /* what is older is counted by a reader, what is newer when tailed */
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
    struct sqlite_gather gather;
    struct event **scratch; /* owned: what the tail is handed */
    size_t scratch_cap;

    /* when to look for rows of others, and when to retain */
    struct sqlite_watch watch;
    uv_timer_t check_timer, retain_timer;
    unsigned wake_ms; /* until the next look, growing up to poll_ms */
    uint64_t read_ms; /* loop time when rows, not the counter, were last looked at */
    unsigned ticks;   /* of the retention timer since it last ran */
    bool stirred;     /* others may have written while a job ran */
    bool check_due, catching_up;
    bool woken;         /* others have committed: look at once, not when the timer says so */
    struct list askers; /* sqlite_asker: of the next look */
    struct list asking; /* of the one that runs */
    bool retain_due, retained_last, retain_hot;

    /* readers */
    struct sqlite_reader readers[SQLITE_READERS];
    struct list reads; /* sqlite_read */

    bool closing;
    unsigned handles; /* open */
    void (*done)(void *ctx);
    void *done_ctx;
};

/* sqlite_jobs.c */
void sqlite_jobs_wake(struct sqlite_store *s);   /* looks for rows of others as soon as possible */
void sqlite_jobs_append(struct sqlite_store *s); /* something waits to be committed */
void sqlite_jobs_kick(struct sqlite_store *s);   /* starts the next writer job, if any is due */
int sqlite_jobs_start(struct sqlite_store *s);   /* thread, timers and watch; 0 or UV_E* */
void sqlite_jobs_stop(struct sqlite_store *s);

/* sqlite_reads.c */
void sqlite_reads_push(struct sqlite_store *s, struct sqlite_read *r); /* takes `r` */
bool sqlite_reads_idle(const struct sqlite_store *s);
void sqlite_reads_count(struct sqlite_store *s); /* counts the rows anew */

/* store_sqlite.c */
void sqlite_store_fault(struct sqlite_store *s, enum sqlite_fault which, const struct err *e);
void sqlite_store_well(struct sqlite_store *s, enum sqlite_fault which);
void sqlite_store_rejects(struct sqlite_store *s, const struct sqlite_rejects *rejects, bool tail);
void sqlite_store_finish(struct sqlite_store *s); /* the file is closed: the handles follow */

#endif
