/* The event store in PostgreSQL 13 and later, shared by any number of brokers.
 *
 * Implements store/store.h. Applications publish inside their own transactions, with nothing but
 * USAGE on the schema and INSERT on one table:
 *
 *   INSERT INTO tidegate.outbox(topic, data) VALUES ('orders/42', '{"state":"paid"}');
 *
 * One broker at a time moves committed rows into tidegate.events, which gives them their ids; all
 * brokers follow that table. See schema/schema.sql for why this order can be trusted. */
#ifndef STORE_POSTGRES_STORE_PG_H
#define STORE_POSTGRES_STORE_PG_H

#include "base/err.h"
#include "store/metrics.h"
#include "store/store.h"

#include <uv.h>

enum { STORE_PG_HISTORY_MAX = 4, STORE_PG_APPEND_MAX_MS = 10000 };

struct store_pg_options {
    const char *conninfo;         /* may hold a password: never logged */
    bool migrate;                 /* make or update the schema; else it must be there */
    unsigned history_connections; /* 1 to STORE_PG_HISTORY_MAX */
    unsigned poll_ms;             /* idle tail: looks at the latest after this, hint or not */
    unsigned outbox_poll_ms;      /* idle sequencer */
    unsigned append_timeout_ms;   /* of a batch, repeats included; at most STORE_PG_APPEND_MAX_MS */
    unsigned batch_rows;          /* moved from the outbox at once */
    uint64_t partition_ids;       /* of tidegate.events */
    size_t max_queue_events, max_queue_bytes;           /* appends not yet committed; 0: no bound */
    uint64_t retain_age_s, retain_events, retain_bytes; /* the first that is met; 0: no bound */
    uint64_t key_window_s;      /* how long the key of an event is remembered; 0: not at all */
    size_t event_bytes;         /* rows with more data go to tidegate.rejected */
    struct store_latest latest; /* of the broker that leads */
    unsigned upkeep_alarm_s; /* health() reports a step of the upkeep that has failed for so long */
};

/* What store_pg_check() has found out. */
struct pg_schema_state;

/* Connects, checks the server, and checks or (`migrate`) makes the schema. Blocks for some seconds at
 * most; on any thread. `out`: free() it; NULL on failure. 0, or a negative UV_E* and what to do about
 * it. */
int store_pg_check(const struct store_pg_options *opt, struct pg_schema_state **out, struct err *e);
/* Is a failure of store_pg_check() one that ends without anybody changing the configuration, the
 * database or this program? */
bool store_pg_heals(int rc);
/* Everything else, on `loop`. `state`: of store_pg_check(); NULL: calls it, and blocks. Copies `opt`,
 * borrows `metrics`. `tail` and `leap` are called for what happens from now on. 0, or a negative UV_E*
 * and what to do about it. */
int store_pg_open(const struct store_pg_options *opt, const struct pg_schema_state *state,
                  uv_loop_t *loop, struct store_metrics *metrics, store_tail_cb tail,
                  store_leap_cb leap, void *tail_ctx, struct store **out, struct err *e);

#endif
