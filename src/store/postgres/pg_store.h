/* The PostgreSQL store as its parts see it; private to store/. All on the loop thread. */
#ifndef STORE_POSTGRES_PG_STORE_H
#define STORE_POSTGRES_PG_STORE_H

#include "base/slots.h"
#include "pg/pg_client.h"
#include "store/append_queue.h"
#include "store/postgres/pg_lineage.h"
#include "store/postgres/pg_schema.h"
#include "store/postgres/sequencer.h"
#include "store/postgres/store_pg.h"

enum {
    PG_CONNECT_MS = 5000, /* for each address of a server */
    PG_ANSWER_MS = 12000, /* a little more than the statement_timeout of PG_SETUP */
};

/* After every connect of those who hand out ids, and where the head is not what it was:
 * partition_ids, the newest id known. */
#define PG_LEAD_SQL "SELECT tidegate.lead($1::bigint, $2::bigint)"

/* What every session wants, whatever the server, the database or the role has set. lock_timeout: a
 * sequencer that was stopped in its batch holds the head lock until its session is cut.
 * synchronous_commit: nobody is told what the server may forget. By pg_settings: what older servers
 * do not have. */
#define PG_SETUP_COMMON                                                                            \
    "SET search_path = pg_catalog; SET default_transaction_isolation = 'read committed';"          \
    "SET standard_conforming_strings = on;"                                                        \
    "SET client_min_messages = warning; SET jit = off; SET max_parallel_workers_per_gather = 0;"   \
    "SET idle_in_transaction_session_timeout = 5000;"                                              \
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;"  \
    "SET tcp_user_timeout = 10000;"                                                                \
    "SELECT set_config(name, '0', false) FROM pg_settings"                                         \
    " WHERE name IN ('idle_session_timeout', 'transaction_timeout');"                              \
    "SELECT set_config('synchronous_commit', 'on', false)"                                         \
    " WHERE current_setting('synchronous_commit') IN ('off', 'local');"
#define PG_SETUP PG_SETUP_COMMON "SET statement_timeout = 10000; SET lock_timeout = 1000"

/* What can be wrong, each until the same kind of work succeeds. */
enum pg_trouble { PG_TROUBLE_APPEND, PG_TROUBLE_TAIL, PG_TROUBLE_READ, PG_TROUBLE_COUNT };

/* Follows tidegate.events: pg_tail.c */
struct pg_tail {
    struct pg_client *client;
    uv_timer_t timer;      /* when to look, whatever LISTEN said */
    uv_timer_t late_timer; /* what was heard of is not the answer to a statement of ours */
    unsigned wait_ms;
    bool busy;          /* a statement of the tail is under way */
    bool again;         /* something happened meanwhile */
    bool unexplained;   /* ids are missing: look at the leaps before going on */
    uint64_t asked;     /* `last` when the look under way was asked: a head below it was set back */
    uint64_t last;      /* delivered up to here */
    uint64_t heard;     /* there are events up to here, says who has committed them */
    uint64_t db_head;   /* as of the last look */
    uint64_t last_leap; /* end of the newest leap known */
    struct list syncs;  /* pg_sync: who waits for what is committed by now */
    bool sync_asked;    /* the look under way answers those marked `asked` */
};

struct pg_sync {
    struct list node;
    bool asked, known;
    uint64_t need;
    store_sync_cb cb;
    void *ctx;
    uint64_t token;
};

enum pg_flight {
    PG_FLIGHT_NONE,
    PG_FLIGHT_SENT,
    PG_FLIGHT_LATE,  /* sent; its publishers were told that they must not wait longer */
    PG_FLIGHT_DOUBT, /* the connection broke before the answer */
    PG_FLIGHT_RETRY, /* undone by the server, for somebody held a lock */
};

/* Group commit: pg_appends.c */
struct pg_appends {
    struct pg_client *client;
    bool starting; /* the first connection is still being made: appends wait for it */
    bool led;      /* lead() has been called on this connection: ids may be handed out */
    struct append_queue queue;
    struct list flying, committed; /* append */
    size_t flying_events;
    size_t max_events, max_bytes; /* of the next batch: less after one that took too much */
    enum pg_flight flight;
    bool doubt;               /* some earlier try of this batch may have been carried out */
    uint64_t since;           /* loop time of the first try */
    uint64_t due;             /* loop time at which `timer` ends patience */
    bool excused;             /* ... and did not, once: see pg_client_was_away() */
    unsigned char writer[16]; /* this process, in tidegate.writer */
    int64_t batch;            /* number of the one in flight */
    uv_timer_t timer;         /* to begin, to retry, or the end of patience */
};

/* Pages: pg_reads.c */
struct pg_reads {
    struct pg_client *clients[STORE_PG_HISTORY_MAX];
    struct slots asked; /* pg_read */
};

struct pg_store {
    struct store base; /* first */
    uv_loop_t *loop;
    struct store_pg_options opt;
    struct pg_conninfo conninfo;
    struct broker_metrics *metrics;
    store_tail_cb on_tail;
    store_leap_cb on_leap;
    void *tail_ctx;

    uint64_t trimmed;
    struct store_leap *leaps; /* owned, PG_LEAPS_MAX */
    size_t leap_count;
    size_t leaps_applied; /* of them the tail has passed */
    uint64_t rows, bytes;
    uint64_t reported; /* bad rows up to here were logged */
    uint64_t leapt; /* leaps that the tail has come to: a page from before one is worth nothing */

    struct pg_lineage lineage;
    uint64_t outage_since; /* loop time of the first of `troubles` */

    struct pg_tail tail;
    struct pg_appends appends;
    struct pg_reads reads;
    struct sequencer *sequencer;

    struct err troubles[PG_TROUBLE_COUNT];
    char detail[1200];

    bool closing, parts_closing;
    uv_timer_t close_timer;
    unsigned parts; /* open */
    void (*done)(void *ctx);
    void *done_ctx;
};

void pg_store_trouble(struct pg_store *s, enum pg_trouble which, int code, const char *text);
void pg_store_well(struct pg_store *s, enum pg_trouble which);
/* For pg_client_events: is this the server to work with? If it is another one than before all other
 * connections are dropped. */
const char *pg_store_refuse(void *store, const PGresult *setup);
/* A connection was lost. One that was given up for silence (UV_ETIMEDOUT) speaks for all. */
void pg_store_lost(void *store, const struct err *e);
/* One connection works: the others need not wait. */
void pg_store_connected(struct pg_store *s);
/* Arguments of PG_LEAD_SQL. */
void pg_store_lead_args(const struct pg_store *s, struct pg_args *args);
/* Was this id handed out by a server, or a state of the database, that is gone? */
bool pg_store_is_lost(const struct pg_store *s, uint64_t id);
void pg_store_bad_row(struct pg_store *s, uint64_t seq, const char *reason);
/* Of a handle or client: the last one frees the store. */
void pg_store_part_closed(void *store);
void pg_store_timer_closed(uv_handle_t *h);
/* Something was completed: may the store close now? */
void pg_store_settle(struct pg_store *s);

/* pg_tail.c */
void pg_tail_start(struct pg_store *s, uint64_t head);
void pg_tail_close(struct pg_store *s);
void pg_tail_hint(struct pg_store *s);                 /* there may be events */
void pg_tail_heard(struct pg_store *s, uint64_t last); /* there are, up to this one */
/* Events of ours were committed as first, first + 1, ...: true when they follow what was delivered,
 * and so have been. */
bool pg_tail_own(struct pg_store *s, struct event *const *events, size_t n);
/* The same of rows that a batch of ours has made events of. */
bool pg_tail_given(struct pg_store *s, const PGresult *rows, int column);
int pg_tail_sync(struct pg_store *s, store_sync_cb cb, void *ctx, uint64_t token);

/* pg_appends.c */
void pg_appends_start(struct pg_store *s);
void pg_appends_close(struct pg_store *s);
int pg_appends_push(struct pg_store *s, struct event_list *events, store_append_cb cb, void *ctx,
                    uint64_t token);
/* The tail has moved: what it has passed may be acknowledged. */
void pg_appends_acknowledge(struct pg_store *s);
/* Ids in the leap were lost with a server. */
void pg_appends_lost(struct pg_store *s, const struct store_leap *leap);
bool pg_appends_idle(const struct pg_store *s);
bool pg_appends_flying(const struct pg_store *s); /* an answer is awaited */
void pg_appends_abandon(struct pg_store *s, int code);

/* pg_reads.c */
void pg_reads_start(struct pg_store *s);
void pg_reads_close(struct pg_store *s);
int pg_reads_page(struct pg_store *s, const struct store_query *q, store_page_cb cb, void *ctx,
                  uint64_t token);
int pg_reads_seek(struct pg_store *s, int64_t unix_ms, store_seek_cb cb, void *ctx, uint64_t token);
bool pg_reads_idle(const struct pg_store *s);
/* $1 < seq <= $2, at most $3 rows and $4 bytes, but one row. Columns: trimmed, the head, total (rows
 * within $3), then PG_ROW_SQL; a single row of NULLs when there is none. */
extern const struct pg_statement pg_page_statement;
enum { PG_PAGE_TRIMMED, PG_PAGE_HEAD, PG_PAGE_TOTAL, PG_PAGE_ROW };

#endif
