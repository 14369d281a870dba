/* Upkeep on a connection of its own, so that it never delays an event: figures (every broker), and
 * by the one that sequences partitions ahead, retention, old keys, dead rows of the outbox. */
#include "base/logging.h"
#include "base/xalloc.h"
#include "store/postgres/sequencer_state.h"

enum {
    UPKEEP_MS = 2000,
    BUSY_MS = 15000, /* a DROP that waits for a reader (a dump, say) makes everybody wait */
    VACUUM_ROWS = 50000,
    VACUUM_IDLE_TICKS = 30, /* some rows, and no vacuum for that many upkeeps */
};

static const struct pg_statement ahead_statement = {
    "ahead", "SELECT tidegate.ahead((SELECT seq FROM tidegate.head), $1::bigint)"};
static const struct pg_statement retain_statement = {
    "retain", "SELECT removed, more FROM tidegate.retain($1::bigint, $2::bigint, $3::bigint,"
              " $4::bigint, $5::int)"};
static const struct pg_statement stats_statement = {
    "stats", "SELECT events, bytes, outbox_oldest_ms, open_publisher_ms, xmin_age, rejected"
             " FROM tidegate.stats()"};
static const struct pg_statement vacuum_statement = {NULL, "VACUUM (TRUNCATE off) tidegate.outbox"};

static void on_upkeep_timer(uv_timer_t *t);

static void upkeep_rest(struct sequencer *q, uint64_t ms)
{
    if (!q->closing) {
        REQUIRE(uv_timer_start(&q->upkeep_timer, on_upkeep_timer, ms, 0) == 0);
    }
}

static void upkeep_failed(struct sequencer *q, const char *what, const struct pg_fault *f)
{
    /* a reader was in the way of a DROP: next time */
    bool busy = strcmp(f->sqlstate, "55P03") == 0 || strcmp(f->sqlstate, "40P01") == 0;
    if (!q->closing && f->code == UV_EIO && !busy) {
        log_warn("store", "upkeep was refused",
                 LOG_F(log_str("statement", what), log_str("sqlstate", f->sqlstate),
                       log_str("error", f->text)));
        q->metrics->store_errors++;
    }
    upkeep_rest(q, busy ? BUSY_MS : UPKEEP_MS);
}

static void on_vacuumed(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    (void)token;
    if (!res) {
        upkeep_failed(ctx, "vacuum", f);
        return;
    }
    upkeep_rest(ctx, UPKEEP_MS);
}

static void on_retained(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    struct sequencer *q = ctx;
    (void)token;
    if (!res || PQntuples(res) != 1) {
        upkeep_failed(q, "retain", f ? f : &(struct pg_fault){.code = UV_EIO, .text = "no row"});
        return;
    }
    q->metrics->retained_removed += (uint64_t)pg_cell_int8(res, 0, 0);
    bool more = pg_cell_bool(res, 0, 1);
    q->ticks_since_vacuum++;
    if (q->rows_since_vacuum >= VACUUM_ROWS ||
        (q->rows_since_vacuum && q->ticks_since_vacuum >= VACUUM_IDLE_TICKS)) {
        q->rows_since_vacuum = 0;
        q->ticks_since_vacuum = 0;
        if (pg_client_ask(q->upkeep, &vacuum_statement, NULL, on_vacuumed, q, 0) == 0) {
            return;
        }
    }
    upkeep_rest(q, more ? 10 : UPKEEP_MS);
}

static int64_t bounded(uint64_t v)
{
    return v < INT64_MAX ? (int64_t)v : INT64_MAX;
}

static void on_ahead(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    enum { RETAIN_ROWS = 5000 };
    struct sequencer *q = ctx;
    struct pg_args args;
    (void)token;
    if (!res) {
        upkeep_failed(q, "ahead", f);
        return;
    }
    pg_args_init(&args, 64);
    pg_args_int8(&args, bounded(q->opt.retain_age_s));
    pg_args_int8(&args, bounded(q->opt.retain_events));
    pg_args_int8(&args, bounded(q->opt.retain_bytes));
    pg_args_int8(&args, bounded(q->opt.key_window_s));
    pg_args_int4(&args, RETAIN_ROWS);
    if (pg_client_ask(q->upkeep, &retain_statement, &args, on_retained, q, 0)) {
        upkeep_rest(q, UPKEEP_MS);
    }
}

static void on_stats(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    struct sequencer *q = ctx;
    struct broker_metrics *m = q->metrics;
    struct pg_args args;
    (void)token;
    if (!res || PQntuples(res) != 1) {
        upkeep_failed(q, "stats", f ? f : &(struct pg_fault){.code = UV_EIO, .text = "no row"});
        return;
    }
    q->events.measured(q->ctx, (uint64_t)pg_cell_int8(res, 0, 0),
                       (uint64_t)pg_cell_int8(res, 0, 1));
    m->store_outbox_oldest_s = (uint64_t)pg_cell_int8(res, 0, 2) / 1000;
    m->store_open_publisher_s = (uint64_t)pg_cell_int8(res, 0, 3) / 1000;
    m->store_xmin_age = (uint64_t)pg_cell_int8(res, 0, 4);
    if (!q->leading) {
        upkeep_rest(q, UPKEEP_MS);
        return;
    }
    pg_args_init(&args, 16);
    pg_args_int8(&args, (int64_t)q->opt.partition_ids);
    if (pg_client_ask(q->upkeep, &ahead_statement, &args, on_ahead, q, 0)) {
        upkeep_rest(q, UPKEEP_MS);
    }
}

static void on_upkeep_timer(uv_timer_t *t)
{
    struct sequencer *q = t->data;
    if (pg_client_ready(q->upkeep) &&
        pg_client_ask(q->upkeep, &stats_statement, NULL, on_stats, q, 0)) {
        upkeep_rest(q, UPKEEP_MS);
    }
}

static void on_upkeep_ready(void *ctx)
{
    upkeep_rest(ctx, 1);
}

static void on_upkeep_lost(void *ctx, const struct err *e)
{
    struct sequencer *q = ctx;
    (void)uv_timer_stop(&q->upkeep_timer);
    q->events.lost(q->ctx, e);
}

const struct pg_client_events sequencer_upkeep_events = {
    .refuse = sequencer_refuse, .ready = on_upkeep_ready, .lost = on_upkeep_lost};
