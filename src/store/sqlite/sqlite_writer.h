/* The one writing connection: group commit, the tail, retention. Everything in here runs on its
 * thread (sqlite_thread.h), one job at a time; store_sqlite.c owns the queue and completes on the
 * loop thread. */
#ifndef STORE_SQLITE_SQLITE_WRITER_H
#define STORE_SQLITE_SQLITE_WRITER_H

#include "base/list.h"
#include "broker/store.h"
#include "store/append_queue.h"
#include "store/sqlite/sqlite_row.h"
#include "store/sqlite/sqlite_wal_index.h"

#include <uv.h>

/* PRAGMA data_version is never negative. */
enum { SQLITE_VERSION_UNKNOWN = -1 };

enum {
    /* One transaction holds at most this much of ours, and of others in one go. */
    SQLITE_GROUP_EVENTS = 4096,
    SQLITE_GROUP_BYTES = 8 * 1024 * 1024,
    /* Rows one retention job removes, so that publishes do not wait long. */
    SQLITE_RETAIN_ROWS = 1000,
};

enum sqlite_job_kind { SQLITE_JOB_WRITE, SQLITE_JOB_CHECK, SQLITE_JOB_RETAIN, SQLITE_JOB_CLOSE };

struct sqlite_retain_rules {
    uint64_t age_s, events, bytes; /* 0: no bound */
    uint64_t key_window_s;
    uint64_t trimmed; /* as far as the loop thread knows */
    uint64_t rows;
    bool counted;    /* is `rows` known? else no event is removed */
    bool watch_only; /* somebody else removes: only learn how far */
    bool probe;      /* the last write failed: try one, to learn whether it works again */
};

/* What became of a retention job. */
struct sqlite_retained {
    uint64_t removed, trimmed;
    bool foreign; /* another process removed rows as well: the count is void */
    bool more;    /* at once again */
    uint64_t file_bytes;
    struct sqlite_leaps leaps; /* v == NULL: as before */
};

struct sqlite_tail_item {
    struct event *ev; /* ours: owned by its append; others': owned by the job */
    uint64_t id;
    bool ours;
};

struct sqlite_writer {
    struct sqlite_db db;
    bool synchronous_full;
    size_t max_data;
    uint64_t key_window_s;
    unsigned busy_ms;
    uint64_t tailed; /* every row up to here was handed to the tail, or is history */
    int64_t data_version;
    const uint32_t *counter; /* of commits, by anybody: sqlite_wal_index.h */
    int64_t changes;         /* what it was when all rows up to `tailed` were all there are */
    bool shrunk;             /* pages were given back since the last checkpoint of retention */

    /* the job */
    enum sqlite_job_kind kind;
    struct list group;                /* appends */
    struct sqlite_retain_rules rules; /* of a retention job */

    /* its outcome */
    int rc; /* of the job itself; appends have their own */
    struct err error;
    struct sqlite_tail_item *tail; /* owned; in order */
    size_t tail_n, tail_cap;
    size_t durable_n;        /* so many items of it are as durable as a commit of ours is */
    size_t durable_rejects;  /* `rejects.n` at that point */
    uint64_t durable_tailed; /* `tailed` at that point */
    bool more;               /* others wrote more than one job reads */
    size_t commits, inserted, others, others_bytes;
    struct sqlite_rejects rejects;
    struct sqlite_retained retained;
};

/* Runs the job; on the thread. */
void sqlite_writer_run(struct sqlite_writer *w);
/* Forgets the outcome of the last job; the events in it must have been taken care of. */
void sqlite_writer_reset(struct sqlite_writer *w, enum sqlite_job_kind kind);
/* sqlite_retention.c: the work of SQLITE_JOB_RETAIN. */
int sqlite_retain_run(struct sqlite_writer *w);

#endif
