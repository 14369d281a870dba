/* Private to store_pg.c and the parts of the class: pg_tail.c, pg_appends.c, pg_reads.c. All of it
 * belongs to the loop thread. */
#ifndef STORE_POSTGRES_STORE_PG_STATE_H
#define STORE_POSTGRES_STORE_PG_STATE_H

#include "base/container/slots.h"
#include "pg/pg_client.h"
#include "store/append_queue.h"
#include "store/postgres/pg_lineage.h"
#include "store/postgres/pg_schema.h"
#include "store/postgres/pg_session.h"
#include "store/postgres/sequencer.h"
#include "store/postgres/store_pg.h"
#include "store/postgres/upkeep.h"

/* Kinds of faults. Each lasts until work of the same kind succeeds. */
enum store_pg_fault {
    STORE_PG_FAULT_APPEND,
    STORE_PG_FAULT_TAIL,
    STORE_PG_FAULT_READ,
    STORE_PG_FAULT_COUNT
};

/* Follows tidegate.events: pg_tail.c */
struct pg_tail {
    struct pg_client *client;
    uv_timer_t timer;      /* when to look, whatever LISTEN said */
    uv_timer_t late_timer; /* the notified events did not come with an answer: read them */
    unsigned wait_ms;
    bool busy;          /* a statement of the tail is under way */
    bool again;         /* look again when the statement under way is answered */
    bool unexplained;   /* ids are missing: look at the leaps before going on */
    int64_t erased;     /* newest batch of tidegate.erased, as of the last look */
    uint64_t leapt_to;  /* end of the newest leap, as of the last look */
    bool led;           /* lead() was asked since the last look that was well */
    uint64_t asked;     /* `last` when that statement was sent: a head below it was set back */
    uint64_t last;      /* delivered up to here */
    uint64_t heard;     /* newest committed id, from notifications and answers */
    uint64_t db_head;   /* as of the last look */
    uint64_t last_leap; /* end of the newest leap known */
    struct list syncs;  /* pg_sync: callers that wait for all that is committed by now */
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

enum pg_batch_state {
    PG_BATCH_NONE,
    PG_BATCH_SENT,
    PG_BATCH_LATE,  /* sent; no answer in time, and its publishers have had theirs */
    PG_BATCH_DOUBT, /* the connection broke before the answer */
    PG_BATCH_RETRY, /* undone by the server because of a lock: sent again after a moment */
};

/* Of tidegate.latest_follow() and tidegate.latest_reached(): SQLSTATE */
#define PG_TOPICS_FULL "23T01"
#define PG_LATEST_NOT_READY "55T01"
#define PG_LOCKED "55P03"

/* Group commit: pg_appends.c */
struct pg_appends {
    struct pg_client *client;
    bool starting;     /* the first connection is still being made: appends wait for it */
    bool ids_reserved; /* by lead(), on this connection: batches may be sent */
    struct append_queue queue;
    struct list batch, committed; /* append */
    size_t batch_events;
    size_t max_events, max_bytes; /* of the next batch: less after one that took too much */
    enum pg_batch_state state;
    bool doubt;               /* some earlier try of this batch may have been carried out */
    uint64_t since;           /* loop time of the first try */
    uint64_t due;             /* loop time at which `timer` gives up */
    bool excused;             /* it has had its second chance: see pg_client_was_away() */
    unsigned char writer[16]; /* this process, in tidegate.writer */
    int64_t batch_no;         /* number of the last batch */
    uv_timer_t timer;         /* its meaning is that of `state`: see pg_appends.c */
};

/* Pages: pg_reads.c */
struct pg_reads {
    struct pg_client *clients[STORE_PG_HISTORY_MAX];
    struct slots asked; /* pg_read */
    uint64_t folded;    /* newest events up to here are in tidegate.latest, as far as is known */
    uv_timer_t probe;   /* after a fault, until a read succeeds */
};

struct store_pg {
    struct store base; /* first */
    uv_loop_t *loop;
    struct store_pg_options opt;
    struct pg_conninfo conninfo;
    struct store_metrics *metrics;
    store_tail_cb on_tail;
    store_leap_cb on_leap;
    void *tail_ctx;

    uint64_t trimmed;
    struct store_leap *leaps; /* owned, PG_LEAPS_MAX */
    size_t leap_count;
    size_t leaps_applied; /* of them the tail has passed */
    uint64_t rows, bytes;
    uint64_t reported; /* bad rows up to here were logged */
    uint64_t leapt;    /* leaps that the tail has passed: a page read before one is stale */

    bool erasing; /* an order of pg_erase.c is under way */
    struct {
        int64_t batch, seq; /* rows of tidegate.erased up to here were seen */
        uint64_t newest;    /* id among them */
    } erased;

    int64_t broker;                  /* this process, in tidegate.broker */
    struct store_presence *presence; /* borrowed: what is asked of it; NULL: nothing */

    struct pg_lineage lineage;
    uint64_t outage_since; /* loop time of the first of `faults` */

    struct pg_tail tail;
    struct pg_appends appends;
    struct pg_reads reads;
    struct sequencer *sequencer;
    struct upkeep *upkeep;
    struct strbuf *complaint; /* owned; of health() */

    struct err faults[STORE_PG_FAULT_COUNT];
    char detail[1200];

    bool closing, parts_closing;
    uv_timer_t close_timer;
    unsigned parts; /* open */
    void (*done)(void *ctx);
    void *done_ctx;
};

void store_pg_fault(struct store_pg *s, enum store_pg_fault which, int code, const char *text);
void store_pg_well(struct store_pg *s, enum store_pg_fault which);
/* For pg_client_events. When the server is another one than before, all other connections are
 * dropped. */
const char *store_pg_refuse(void *store, const PGresult *setup);
/* For pg_client_events. UV_ETIMEDOUT, no answer in time, closes all other connections too. */
void store_pg_lost(void *store, const struct err *e);
/* One connection works: the others connect now instead of after their back-off. */
void store_pg_connected(struct store_pg *s);
/* Arguments of PG_LEAD_SQL. */
void store_pg_lead_args(const struct store_pg *s, struct pg_args *args);
/* Does the id lie in a leap? Then a server, or a state of the database, that is gone gave it. */
bool store_pg_is_lost(const struct store_pg *s, uint64_t id);
void store_pg_bad_row(struct store_pg *s, uint64_t seq, const char *reason);
/* Of a handle or client: the last one frees the store. */
void store_pg_part_closed(void *store);
void store_pg_timer_closed(uv_handle_t *h);
/* Called when something was completed: closes the store if it waits for that. */
void store_pg_settle(struct store_pg *s);

/* pg_tail.c */
void pg_tail_start(struct store_pg *s, uint64_t head);
void pg_tail_close(struct store_pg *s);
void pg_tail_hint(struct store_pg *s);                 /* there may be events */
void pg_tail_heard(struct store_pg *s, uint64_t last); /* there are, up to this one */
/* This broker's own events were committed. Delivers them and returns true when they follow the last
 * delivered id without a hole. */
bool pg_tail_own(struct store_pg *s, struct event *const *events, size_t n);
/* The same for rows that this broker's sequencer has moved. */
bool pg_tail_given(struct store_pg *s, const PGresult *rows, int column, uint64_t taken_us);
int pg_tail_sync(struct store_pg *s, store_sync_cb cb, void *ctx, uint64_t token);

/* pg_appends.c */
void pg_appends_start(struct store_pg *s);
void pg_appends_close(struct store_pg *s);
int pg_appends_push(struct store_pg *s, struct event_list *events, store_append_cb cb, void *ctx,
                    uint64_t token);
/* The tail has advanced: appends up to its last id succeed. */
void pg_appends_acknowledge(struct store_pg *s);
/* Appends with ids in the leap fail: their events are lost. */
void pg_appends_lost(struct store_pg *s, const struct store_leap *leap);
bool pg_appends_idle(const struct store_pg *s);
bool pg_appends_is_sent(const struct store_pg *s); /* an answer is awaited */

/* pg_erase.c */
int pg_erase_order(struct store_pg *s, const uint64_t *ids, size_t n, store_erase_cb cb, void *ctx,
                   uint64_t token);
/* The statement for what was erased since; its answer; `more`: ask again. */
const struct pg_statement *pg_erase_look(const struct store_pg *s, struct pg_args *args);
void pg_erase_take(struct store_pg *s, const PGresult *res, bool *more);

/* pg_presence.c */
int pg_presence_order(struct store_pg *s, struct store_presence *op);

/* pg_reads.c */
void pg_reads_start(struct store_pg *s);
void pg_reads_close(struct store_pg *s);
int pg_reads_page(struct store_pg *s, const struct store_query *q, store_page_cb cb, void *ctx,
                  uint64_t token);
int pg_reads_seek(struct store_pg *s, int64_t unix_ms, store_seek_cb cb, void *ctx, uint64_t token);
bool pg_reads_idle(const struct store_pg *s);
/* $1 < seq <= $2, at most $3 rows and $4 bytes, but one row. Columns: trimmed, the head, total (rows
 * within $3), the time there, when the event got its id, then PG_ROW_SQL; a single row of NULLs when there
 * is none. */
extern const struct pg_statement pg_page_statement;
enum { PG_PAGE_TRIMMED, PG_PAGE_HEAD, PG_PAGE_TOTAL, PG_PAGE_NOW, PG_PAGE_AT, PG_PAGE_ROW };

#endif
