/* Looks after the tables, on a connection of its own, so that it never delays an event: figures and
 * the sessions of frozen brokers (every broker); partitions ahead, retention, old keys, rejected
 * rows, dead rows of the outbox (only the broker whose sequencer has the lease). */
#ifndef STORE_POSTGRES_UPKEEP_H
#define STORE_POSTGRES_UPKEEP_H

#include "pg/pg_client.h"
#include "store/metrics.h"
#include "store/postgres/sequencer.h"
#include "store/store.h"

struct upkeep_options {
    const struct pg_conninfo *conninfo; /* borrowed */
    uint64_t partition_ids;
    uint64_t retain_age_s, retain_events, retain_bytes, key_window_s;
    const struct store_latest *latest; /* borrowed */
    unsigned alarm_s;                  /* a step that has failed for so long is complained of */
};

struct upkeep_events {
    void (*measured)(void *ctx, uint64_t events, uint64_t bytes);
    const char *(*refuse)(void *ctx, const PGresult *setup); /* as of pg_client_events */
    void (*lost)(void *ctx, const struct err *e);            /* the same */
};

struct upkeep;

/* Borrows `sequencer`: says who leads, and how many rows it has moved. Close both together. */
struct upkeep *upkeep_new(uv_loop_t *loop, const struct upkeep_options *opt,
                          const struct sequencer *sequencer, struct store_metrics *metrics,
                          const struct upkeep_events *events, void *ctx);
/* pg_client_ask() on its connection, for what operators order. */
int upkeep_ask(struct upkeep *u, const struct pg_statement *st, struct pg_args *args,
               pg_done_cb done, void *ctx);
/* Appends what does not work, each ending in "; ". 0, or UV_E* of strbuf.h. */
int upkeep_complain(const struct upkeep *u, struct strbuf *out);
void upkeep_wake(struct upkeep *u); /* see pg_client_wake() */
/* pg_client_drop() or pg_client_leave() of its connection. */
void upkeep_give_up(struct upkeep *u, void (*give_up)(struct pg_client *c, const char *why),
                    const char *why);
void upkeep_close(struct upkeep *u, void (*closed)(void *ctx), void *ctx);

#endif
