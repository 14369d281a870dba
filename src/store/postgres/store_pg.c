/* See store_pg.h. This file opens and closes the store, reports its health, and keeps its parts on
 * one server. To be read in this order: schema/schema.sql (why the order of events can be trusted),
 * pg_schema.c (the database is checked and migrated), pg_tail.c, pg_appends.c and pg_reads.c (the
 * parts of this class, one connection each, or more), sequencer.c (outbox to events), upkeep.c (the
 * tables), pg_erase.c, pg_presence.c, pg_row.c (a row becomes an event), and src/pg (libpq on the loop). */
#include "store/postgres/store_pg.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "store/postgres/store_pg_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
    CLOSE_MS = 5000, /* for what was accepted to complete */
    COMPLAINT_MAX_BYTES = 4096,
};

static struct store_pg *store_pg_from_base(struct store *base)
{
    return container_of(base, struct store_pg, base);
}

/* `base` is the first member: container_of() would cast the const away. */
static const struct store_pg *store_pg_from_const(const struct store *base)
{
    return (const struct store_pg *)(const void *)base;
}

/* ---------------------------------------------------------------- health */

static const char *const fault_names[] = {
    [STORE_PG_FAULT_APPEND] = "cannot store events",
    [STORE_PG_FAULT_TAIL] = "cannot follow events",
    [STORE_PG_FAULT_READ] = "cannot read history",
};

static void store_pg_describe(struct store_pg *s)
{
    s->detail[0] = '\0';
    for (int i = 0; i < STORE_PG_FAULT_COUNT && !s->detail[0]; i++) {
        if (s->faults[i].code) {
            (void)snprintf(s->detail, sizeof s->detail, "%s: %s", fault_names[i],
                           s->faults[i].text);
        }
    }
}

void store_pg_fault(struct store_pg *s, enum store_pg_fault which, int code, const char *text)
{
    struct err *e = &s->faults[which];
    if (s->parts_closing) {
        return;
    }
    /* once, not per attempt; and a server that is away stops all kinds of work */
    bool known = e->code != 0;
    for (int i = 0; i < STORE_PG_FAULT_COUNT && !known; i++) {
        known = code != UV_EIO && s->faults[i].code && s->faults[i].code != UV_EIO;
    }
    (void)err_set(e, code, "%s", text);
    if (!known) {
        log_error("store", fault_names[which], LOG_F(log_str("error", e->text)));
    }
    if (!s->outage_since) {
        s->outage_since = uv_now(s->loop);
    }
    store_pg_describe(s);
}

void store_pg_well(struct store_pg *s, enum store_pg_fault which)
{
    if (s->faults[which].code) {
        s->faults[which] = (struct err){0};
        store_pg_describe(s);
        if (!s->detail[0]) {
            double away = (double)(uv_now(s->loop) - s->outage_since) / 1000;
            log_info("store", "works again", LOG_F(log_float("after_seconds", away)));
            s->outage_since = 0;
            pg_lineage_outage_over(&s->lineage);
        }
    }
}

/* ---------------------------------------------------------------- which server */

static void store_pg_give_up_all(struct store_pg *s,
                                 void (*give_up)(struct pg_client *c, const char *why),
                                 const char *why)
{
    if (s->parts_closing || !s->upkeep) { /* still being made, or no longer there */
        return;
    }
    give_up(s->tail.client, why);
    give_up(s->appends.client, why);
    for (unsigned i = 0; i < s->opt.history_connections; i++) {
        give_up(s->reads.clients[i], why);
    }
    sequencer_give_up(s->sequencer, give_up, why);
    upkeep_give_up(s->upkeep, give_up, why);
}

const char *store_pg_refuse(void *store, const PGresult *setup)
{
    struct store_pg *s = store;
    bool other = false;
    const char *why = pg_lineage_judge(&s->lineage, setup, uv_now(s->loop), &other);
    if (!why && other) { /* the connection that asks is not ready yet: it stays */
        store_pg_give_up_all(s, pg_client_drop,
                             "another server has taken over, or it was restarted");
    }
    return why;
}

void store_pg_lost(void *store, const struct err *e)
{
    struct store_pg *s = store;
    s->metrics->store_reconnects++;
    if (e->code == UV_ETIMEDOUT) {
        store_pg_give_up_all(s, pg_client_leave, "the server does not answer another connection");
    }
}

void store_pg_connected(struct store_pg *s)
{
    if (s->parts_closing || !s->upkeep) { /* still being made, or no longer there */
        return;
    }
    sequencer_wake(s->sequencer);
    upkeep_wake(s->upkeep);
    pg_client_wake(s->appends.client);
    pg_client_wake(s->tail.client);
    for (unsigned i = 0; i < s->opt.history_connections; i++) {
        pg_client_wake(s->reads.clients[i]);
    }
}

void store_pg_lead_args(const struct store_pg *s, struct pg_args *args)
{
    pg_args_init(args, 32);
    pg_args_int8(args, (int64_t)s->opt.partition_ids);
    pg_args_int8(args, (int64_t)s->tail.last);
}

bool store_pg_is_lost(const struct store_pg *s, uint64_t id)
{
    for (size_t i = 0; i < s->leaps_applied; i++) {
        if (id > s->leaps[i].after && id <= s->leaps[i].upto) {
            return true;
        }
    }
    return false;
}

/* Rows of history come by again and again: each is reported once. */
void store_pg_bad_row(struct store_pg *s, uint64_t seq, const char *reason)
{
    if (seq > s->reported) {
        s->reported = seq;
        s->metrics->rejected_rows++;
        log_warn("store", "row of tidegate.events cannot be delivered",
                 LOG_F(log_uint("seq", seq), log_str("reason", reason)));
    }
}

/* What keeps events neither from being published over HTTP nor from being delivered. NULL: all is
 * well. What does not fit into the buffer is left out. */
static const char *store_pg_complaint(const struct store_pg *s)
{
    struct strbuf *out = s->complaint;
    if (s->parts_closing) {
        return NULL;
    }
    strbuf_reset(out);
    int rc = sequencer_complain(s->sequencer, out);
    rc = rc ? rc : upkeep_complain(s->upkeep, out);
    if (rc) {
        log_debug("store", "not all complaints fit into the health report", NULL);
    }
    if (out->len < 2) {
        return NULL;
    }
    out->data[out->len - 2] = '\0';
    return out->data;
}

static struct store_health store_pg_health(const struct store *base)
{
    const struct store_pg *s = store_pg_from_const(base);
    return (struct store_health){.ok = s->detail[0] == '\0',
                                 .detail = s->detail[0] ? s->detail : "ok",
                                 .degraded = store_pg_complaint(s),
                                 .events = s->rows,
                                 .bytes = s->bytes};
}

static struct store_bounds store_pg_bounds(const struct store *base)
{
    const struct store_pg *s = store_pg_from_const(base);
    return (struct store_bounds){.head = s->tail.last,
                                 .trimmed = s->trimmed,
                                 .leaps = s->leaps,
                                 .leap_count = s->leaps_applied};
}

/* ---------------------------------------------------------------- accepting */

static int store_pg_append(struct store *base, struct event_list *events, store_append_cb cb,
                           void *ctx, uint64_t token)
{
    struct store_pg *s = store_pg_from_base(base);
    return s->closing ? UV_ECANCELED : pg_appends_push(s, events, cb, ctx, token);
}

static int store_pg_read(struct store *base, const struct store_query *q, store_page_cb cb,
                         void *ctx, uint64_t token)
{
    struct store_pg *s = store_pg_from_base(base);
    return s->closing ? UV_ECANCELED : pg_reads_page(s, q, cb, ctx, token);
}

static int store_pg_seek(struct store *base, int64_t unix_ms, store_seek_cb cb, void *ctx,
                         uint64_t token)
{
    struct store_pg *s = store_pg_from_base(base);
    return s->closing ? UV_ECANCELED : pg_reads_seek(s, unix_ms, cb, ctx, token);
}

static int store_pg_sync(struct store *base, store_sync_cb cb, void *ctx, uint64_t token)
{
    struct store_pg *s = store_pg_from_base(base);
    return s->closing ? UV_ECANCELED : pg_tail_sync(s, cb, ctx, token);
}

static int store_pg_erase(struct store *base, const uint64_t *ids, size_t n, store_erase_cb cb,
                          void *ctx, uint64_t token)
{
    struct store_pg *s = store_pg_from_base(base);
    return s->closing ? UV_ECANCELED : pg_erase_order(s, ids, n, cb, ctx, token);
}

static int store_pg_presence(struct store *base, struct store_presence *op)
{
    struct store_pg *s = store_pg_from_base(base);
    return s->closing ? UV_ECANCELED : pg_presence_order(s, op);
}

/* ---------------------------------------------------------------- closing */

static void store_pg_free(struct store_pg *s)
{
    slots_clear(&s->reads.asked);
    pg_conninfo_clear(&s->conninfo);
    strbuf_clear(s->complaint);
    free(s->complaint);
    free(s->leaps);
    free(s);
}

void store_pg_part_closed(void *store)
{
    struct store_pg *s = store;
    if (--s->parts == 0) {
        void (*done)(void *ctx) = s->done;
        void *ctx = s->done_ctx;
        store_pg_free(s);
        done(ctx);
    }
}

void store_pg_timer_closed(uv_handle_t *h)
{
    store_pg_part_closed(h->data);
}

static void store_pg_close_parts(struct store_pg *s)
{
    if (s->parts_closing) {
        return;
    }
    s->parts_closing = true;
    upkeep_close(s->upkeep, store_pg_part_closed, s);
    sequencer_close(s->sequencer, store_pg_part_closed, s);
    pg_appends_close(s);
    pg_reads_close(s);
    pg_tail_close(s);
    uv_close((uv_handle_t *)&s->close_timer, store_pg_timer_closed);
}

static void store_pg_on_close_due(uv_timer_t *t)
{
    store_pg_close_parts(t->data);
}

void store_pg_settle(struct store_pg *s)
{
    /* by the timer: the caller is in the middle of something */
    if (s->closing && !s->parts_closing && pg_appends_idle(s) && pg_reads_idle(s) && !s->presence) {
        REQUIRE(uv_timer_start(&s->close_timer, store_pg_on_close_due, 0, 0) == 0);
    }
}

static void store_pg_close(struct store *base, void (*done)(void *ctx), void *ctx)
{
    struct store_pg *s = store_pg_from_base(base);
    REQUIRE(!s->closing);
    s->closing = true;
    s->done = done;
    s->done_ctx = ctx;
    REQUIRE(uv_timer_start(&s->close_timer, store_pg_on_close_due, CLOSE_MS, 0) == 0);
    store_pg_settle(s);
}

/* ---------------------------------------------------------------- opening */

static const struct store_ops pg_ops = {.reads_by_topic = true,
                                        .append = store_pg_append,
                                        .read = store_pg_read,
                                        .seek = store_pg_seek,
                                        .sync = store_pg_sync,
                                        .erase = store_pg_erase,
                                        .presence = store_pg_presence,
                                        .bounds = store_pg_bounds,
                                        .health = store_pg_health,
                                        .close = store_pg_close};

static void store_pg_on_sequenced(void *ctx, uint64_t last, const PGresult *rows, int column,
                                  uint64_t took_us)
{
    if (!rows || !pg_tail_given(ctx, rows, column, took_us)) {
        pg_tail_heard(ctx, last);
    }
}

static uint64_t store_pg_newest(void *ctx)
{
    return ((struct store_pg *)ctx)->tail.last;
}

static void store_pg_on_measured(void *ctx, uint64_t events, uint64_t bytes)
{
    struct store_pg *s = ctx;
    s->rows = events;
    s->bytes = bytes;
}

static void store_pg_start(struct store_pg *s, const struct pg_schema_state *state)
{
    const struct sequencer_events sequencer_events = {.drained = store_pg_on_sequenced,
                                                      .newest = store_pg_newest,
                                                      .refuse = store_pg_refuse,
                                                      .lost = store_pg_lost};
    const struct sequencer_options sequencer = {.conninfo = &s->conninfo,
                                                .poll_ms = s->opt.outbox_poll_ms,
                                                .batch_rows = s->opt.batch_rows,
                                                .partition_ids = s->opt.partition_ids,
                                                .event_bytes = s->opt.event_bytes,
                                                .dedup = s->opt.key_window_s > 0};
    const struct upkeep_events upkeep_events = {
        .measured = store_pg_on_measured, .refuse = store_pg_refuse, .lost = store_pg_lost};
    const struct upkeep_options upkeep = {.conninfo = &s->conninfo,
                                          .partition_ids = s->opt.partition_ids,
                                          .retain_age_s = s->opt.retain_age_s,
                                          .retain_events = s->opt.retain_events,
                                          .retain_bytes = s->opt.retain_bytes,
                                          .key_window_s = s->opt.key_window_s,
                                          .latest = &s->opt.latest,
                                          .alarm_s = s->opt.upkeep_alarm_s};
    s->trimmed = state->trimmed;
    s->leaps = xcalloc(PG_LEAPS_MAX, sizeof *s->leaps);
    memcpy(s->leaps, state->leaps, state->leap_count * sizeof *s->leaps);
    s->leap_count = s->leaps_applied = state->leap_count;
    s->erased.batch = s->tail.erased = state->erased;
    s->erased.seq = INT64_MAX;
    s->tail.last_leap = state->leap_count ? state->leaps[state->leap_count - 1].upto : 0;
    REQUIRE(uv_timer_init(s->loop, &s->close_timer) == 0);
    s->close_timer.data = s;
    s->parts = 3; /* that timer, the sequencer and the upkeep */
    s->complaint = xmalloc(sizeof *s->complaint);
    strbuf_init(s->complaint, COMPLAINT_MAX_BYTES);
    pg_tail_start(s, state->head);
    pg_appends_start(s);
    pg_reads_start(s);
    s->sequencer = sequencer_new(s->loop, &sequencer, s->metrics, &sequencer_events, s);
    s->upkeep = upkeep_new(s->loop, &upkeep, s->sequencer, s->metrics, &upkeep_events, s);
}

int store_pg_check(const struct store_pg_options *opt, struct pg_schema_state **out, struct err *e)
{
    struct pg_conninfo conninfo;
    *out = NULL;
    int rc = pg_conninfo_parse(&conninfo, opt->conninfo, e);
    if (rc) {
        return err_context(e, "store.conninfo");
    }
    struct pg_schema_state *state = xcalloc(1, sizeof *state);
    rc = pg_schema_prepare(&conninfo, opt->migrate, opt->partition_ids, state, e);
    pg_conninfo_clear(&conninfo);
    if (rc) {
        free(state);
        return rc;
    }
    *out = state;
    return 0;
}

bool store_pg_heals(int rc)
{
    /* EINVAL: the text of conninfo. EACCES: it does not let us in, or rights are missing. ENOENT: no
     * database, or no schema where only `tidegate migrate` may make it. ENOTSUP: a schema of a newer
     * program, an old server, another encoding. ERANGE: the server's clock */
    static const int lasting[] = {UV_EINVAL, UV_EACCES, UV_ENOENT, UV_ENOTSUP, UV_ERANGE};
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++) {
        if (rc == lasting[i]) {
            return false;
        }
    }
    return true;
}

int store_pg_open(const struct store_pg_options *opt, const struct pg_schema_state *state,
                  uv_loop_t *loop, struct store_metrics *metrics, store_tail_cb tail,
                  store_leap_cb leap, void *tail_ctx, struct store **out, struct err *e)
{
    struct pg_schema_state *own = NULL;
    int rc = state ? 0 : store_pg_check(opt, &own, e);
    if (rc) {
        return rc;
    }
    const struct pg_schema_state *known = state ? state : own;
    REQUIRE(known != NULL);
    struct store_pg *s = xcalloc(1, sizeof *s);
    s->base.ops = &pg_ops;
    s->loop = loop;
    s->opt = *opt;
    s->opt.conninfo = NULL;
    REQUIRE(getrandom(&s->broker, sizeof s->broker, 0) == (ssize_t)sizeof s->broker);
    s->metrics = metrics;
    s->on_tail = tail;
    s->on_leap = leap;
    s->tail_ctx = tail_ctx;
    rc = pg_conninfo_parse(&s->conninfo, opt->conninfo, e);
    if (rc) {
        rc = err_context(e, "store.conninfo");
        free(s);
    } else {
        store_pg_start(s, known);
        *out = &s->base;
    }
    free(own);
    return rc;
}
