/* The one writing connection: group commit, the tail, retention. Everything in here runs on its
 * thread (sqlite_thread.h), one job at a time; store_sqlite.c owns the queue and completes on the
 * loop thread. */
#ifndef STORE_SQLITE_SQLITE_WRITER_H
#define STORE_SQLITE_SQLITE_WRITER_H

#include "base/container/list.h"
#include "base/container/map.h"
#include "base/hash.h"
#include "base/strbuf.h"
#include "store/append_queue.h"
#include "store/sqlite/sqlite_row.h"
#include "store/sqlite/timing/sqlite_wal_index.h"
#include "store/store.h"

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

enum sqlite_job_kind {
    SQLITE_JOB_WRITE,
    SQLITE_JOB_CHECK,
    SQLITE_JOB_RETAIN, /* from here to FOLD: sqlite_jobs_choose_other() */
    SQLITE_JOB_ERASE,
    SQLITE_JOB_PRESENCE,
    SQLITE_JOB_FOLD,
    SQLITE_JOB_CLOSE
};

/* An order to erase, and how far it is: one or more jobs. */
struct sqlite_erase {
    uint64_t *ids; /* owned */
    size_t n;      /* 0: clean the files */
    store_erase_cb cb;
    void *ctx;
    uint64_t token;
    unsigned tries;
    size_t removed;
    bool more; /* another job for it */
};

/* Processes whose members are still in the file, and which are gone. */
enum { SQLITE_GONE_MAX = 64 };
struct sqlite_gone {
    int64_t broker;
    uint64_t seen_ns; /* when that was first seen */
    bool there;       /* by the look that is under way */
};

struct sqlite_retain_rules {
    uint64_t age_s, events, bytes; /* 0: no bound */
    uint64_t key_window_s;
    uint64_t trimmed, reported; /* as far as the loop thread knows */
    uint64_t rows;
    bool counted;    /* is `rows` known? else no event is removed */
    bool watch_only; /* another broker removes: only learn how far */
    bool probe;      /* the last write failed: try one, to learn whether it works again */
};

/* What became of a retention job. */
struct sqlite_retained {
    uint64_t removed, trimmed;
    uint64_t reported; /* bad rows up to here were logged, by this broker or another */
    bool foreign;      /* another process removed rows as well: the count is void */
    bool more;         /* at once again */
    uint64_t file_bytes;
    struct sqlite_leaps leaps; /* v == NULL: as before */
};

/* The newest event of each topic of store.latest among some events. */
enum { FOLD_NOTHING = -1 };
struct sqlite_fold {
    struct map topics;
    struct sqlite_fold_topic **v; /* owned, with what it points to */
    size_t n, cap, rows;
    int64_t after, last; /* they are those in (after, last]; FOLD_NOTHING: of no events */
};

/* What a job has seen of store.latest. */
struct sqlite_folded {
    bool looked; /* the rest is known */
    uint64_t topics, done;
    bool filling; /* much is yet to be folded: snapshots wait */
    bool more;    /* another step at once */
};

struct sqlite_tail_item {
    struct event *ev; /* ours: owned by its append; others': owned by the job. NULL: no event, but a
                         leap over (after, id], or what `rejected` says */
    uint64_t id, after;
    bool ours;
    bool rejected; /* rows that cannot be delivered were passed: one item for all in a row */
    bool lost;     /* a leap: the store has lost ids above `after`; else rows were removed unseen */
};

struct sqlite_writer {
    struct sqlite_db db;
    bool synchronous_full;
    size_t max_data;
    uint64_t key_window_s;
    unsigned busy_ms;
    const struct store_latest *latest; /* borrowed */
    char *latest_list;                 /* owned: the same as the file says it; NULL: not made yet */
    int64_t latest_schema;             /* version of the schema that was looked at last; 0: none */
    bool latest_same;                  /* the file keeps the topics of `latest` */
    bool latest_by_hand; /* and has no triggers but the known ones: ours are not run */
    bool triggers_off;
    struct hash_key latest_hash;
    struct sqlite_fold fold;
    size_t fold_topics; /* at so many a fold is due; 0: not chosen yet */
    uint64_t tailed;    /* every row up to here was handed to the tail, or is history */
    int64_t tailed_ms;  /* what its row says of the time; 0: unknown */
    int64_t data_version;
    const uint32_t *counter; /* of all commits: sqlite_wal_index.h */
    int64_t changes;         /* what it was when all rows up to `tailed` were all there are */
    int64_t erased_seen;     /* batch of erased events that the loop thread has heard of */
    struct sqlite_gone gone[SQLITE_GONE_MAX];
    size_t gone_n;
    size_t presence_said; /* events that the job has inserted */
    bool shrunk;          /* pages were given back since the last checkpoint of retention */

    /* the job */
    enum sqlite_job_kind kind;
    struct list group;                /* appends */
    struct sqlite_retain_rules rules; /* of a retention job */
    struct sqlite_erase *erase;       /* of an erase job; borrowed */
    struct store_presence *presence;  /* of such a job; borrowed */

    /* its outcome */
    int rc;     /* of the job itself; appends have their own */
    bool doubt; /* a commit of this group failed, and what it wrote may be found after a crash */
    struct err error;
    struct sqlite_tail_item *tail; /* owned; in order */
    size_t tail_n, tail_cap;
    size_t durable_n;        /* so many items of it are as durable as a commit of ours is */
    size_t durable_rejects;  /* `rejects.n` at that point */
    uint64_t durable_tailed; /* `tailed` at that point */
    int64_t durable_tailed_ms;
    uint64_t trimmed;          /* what retention has removed, as of the last look */
    struct sqlite_leaps leaps; /* v == NULL: as before */
    bool more;                 /* others wrote more than one job reads */
    size_t commits, inserted, others, others_bytes;
    struct sqlite_rejects rejects;
    struct sqlite_retained retained;
    struct sqlite_folded folded;
    size_t noted;     /* so many of `tail` are in `fold` */
    uint64_t *erased; /* owned; events to be forgotten */
    size_t erased_n, erased_cap;
    uint64_t erased_trimmed; /* what retention had removed by then */
};

/* Runs the job; on the thread. */
void sqlite_writer_run(struct sqlite_writer *w);
/* Forgets the outcome of the last job; the events in it must have been taken care of. */
void sqlite_writer_reset(struct sqlite_writer *w, enum sqlite_job_kind kind);
/* For sqlite_lineage.c: what comes next in the tail; all of it so far is as durable as a commit. */
void sqlite_writer_push(struct sqlite_writer *w, struct sqlite_tail_item item);
void sqlite_writer_durable(struct sqlite_writer *w);

/* sqlite_lineage.c: what is seen of the file, in one snapshot. */
struct sqlite_look {
    uint64_t head, trimmed;
    struct store_leap over; /* the last leap that begins below `tailed`; upto 0: none */
    bool leapt;             /* `over` says that what the tail has passed is lost */
    bool lost;              /* so do the rows: they are of another state of the file */
    int64_t erased;         /* the newest batch of erased events */
};
int sqlite_lineage_look(struct sqlite_writer *w, struct sqlite_look *out);
/* The tail goes on above `upto`: rows were `lost`, or removed before they could be seen. */
void sqlite_lineage_pass(struct sqlite_writer *w, uint64_t after, uint64_t upto, bool lost);
/* The rows are of another state: leaps, in a transaction of its own, above all that was handed out.
 */
int sqlite_lineage_leap(struct sqlite_writer *w);
/* sqlite_retention.c: the work of SQLITE_JOB_RETAIN. */
int sqlite_retain_run(struct sqlite_writer *w);
/* sqlite_latest.c. The patterns as the file says them: one a line. */
int sqlite_latest_put_list(struct strbuf *out, const struct store_latest *latest);
/* sqlite_latest_fold.c: a step of what is to be folded; `wanted`: somebody waits for it. In a transaction of its own; 0 or a
 * negative UV_E* with text. UV_EAGAIN: the file keeps other topics now, a broker that names those does it. */
int sqlite_latest_step(struct sqlite_writer *w, bool wanted);
/* Is it a topic that is kept? */
bool sqlite_latest_names(const struct store_latest *latest, struct slice topic);
/* In a write transaction, before rows of ours are inserted: whether the triggers keep the newest of them, or they are
 * folded later. */
int sqlite_latest_choose(struct sqlite_writer *w);
/* Behind the last of them, in `tail` from `mark` on, whose id is `last`: folds what is due. STORE_TOPICS_FULL: they bring too
 * many topics. */
int sqlite_latest_keep_ours(struct sqlite_writer *w, size_t mark, uint64_t last);
/* Committed: keeps the first `end` of `tail` in mind for the next fold. */
void sqlite_latest_note(struct sqlite_writer *w, size_t end);
void sqlite_fold_free(struct sqlite_fold *f);
/* In a write transaction: the trigger, which knows of what is folded, can judge so many topics more. Returns a SQLite
 * result. */
int sqlite_latest_make_room(struct sqlite_writer *w, int64_t head, size_t topics);
/* What comes next relies on the triggers. */
void sqlite_latest_rely(struct sqlite_writer *w);
/* sqlite_erase.c: the work of SQLITE_JOB_ERASE. */
int sqlite_erase_run(struct sqlite_writer *w);
/* sqlite_presence.c: the work of SQLITE_JOB_PRESENCE. */
int sqlite_presence_run(struct sqlite_writer *w);
/* Reads what was committed since the last look, by this connection, too. */
int sqlite_writer_look_at_others(struct sqlite_writer *w);
/* Takes what was erased since `erased_seen`. */
int sqlite_erase_collect(struct sqlite_writer *w);

#endif
