/* Upkeep on a connection of its own, so that it never delays an event: figures and sessions of
 * frozen brokers (every broker), and by the one that sequences partitions ahead, retention, old
 * keys, dead rows of the outbox. Step by step: one that fails keeps no other from its work. */
#include "base/clock.h"
#include "base/logging.h"
#include "base/xalloc.h"
#include "store/postgres/sequencer_state.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    UPKEEP_MS = 2000,
    AGAIN_MS = 10,
    BUSY_MS = 15000,  /* before the next try of what somebody's lock was in the way of */
    NOISE_MS = 60000, /* between log lines about the same failure */
    VACUUM_ROWS = 50000,
    VACUUM_IDLE_MS = 60000, /* some rows, and no vacuum for so long */
    RETAIN_ROWS = 5000,
    RETAIN_ROWS_MIN = 10,
    RETAIN_SLOW_MS = 1000, /* rows may be large: then fewer at once */
    RETAIN_FAST_MS = 200,
    STILL_MS = 30000, /* the same row is the first of the outbox */
    PARTITION_RELATIONS = 5,
    LOCKS_SHARE = 4, /* a page locks at most 1/4 of what the server has room for */
};

/* What a step is. `args` NULL: none. `take` NULL: nothing is to be learned from the answer. */
struct step_kind {
    const char *name;
    struct pg_statement st;
    bool by_leader;
    bool each; /* not more often than the upkeep itself, also when there is more to do */
    size_t succeeded;
    void (*args)(const struct sequencer *q, struct pg_args *args);
    void (*take)(struct sequencer *q, const PGresult *res, uint64_t took_ms);
};

static void on_upkeep_timer(uv_timer_t *t);

static void upkeep_rest(struct sequencer *q, uint64_t ms)
{
    if (!q->closing) {
        REQUIRE(uv_timer_start(&q->upkeep_timer, on_upkeep_timer, ms, 0) == 0);
    }
}

static int64_t bounded(uint64_t v)
{
    return v < INT64_MAX ? (int64_t)v : INT64_MAX;
}

/* ---------------------------------------------------------------- the steps */

static void warn_of_partitions(struct sequencer *q, uint64_t partitions, uint64_t locks)
{
    uint64_t sane = locks / LOCKS_SHARE / PARTITION_RELATIONS;
    bool many = partitions > sane;
    if (many && !q->many_partitions) {
        log_warn("store",
                 "too many partitions: a client that resumes from far back locks five relations "
                 "of each, and the server has room for few such at once; raise "
                 "store.partition_ids, or max_locks_per_transaction of the server",
                 LOG_F(log_uint("partitions", partitions), log_uint("sane", sane),
                       log_uint("locks", locks)));
    }
    q->many_partitions = many;
}

static void take_figures(struct sequencer *q, const PGresult *res, uint64_t took_ms)
{
    struct broker_metrics *m = q->metrics;
    int64_t first = pg_cell_int8(res, 0, 5);
    (void)took_ms;
    q->events.measured(q->ctx, (uint64_t)pg_cell_int8(res, 0, 0),
                       (uint64_t)pg_cell_int8(res, 0, 1));
    m->store_outbox_oldest_s = (uint64_t)pg_cell_int8(res, 0, 2) / 1000;
    m->store_open_publisher_s = (uint64_t)pg_cell_int8(res, 0, 3) / 1000;
    m->store_xmin_age = (uint64_t)pg_cell_int8(res, 0, 4);
    m->store_partitions = (uint64_t)pg_cell_int8(res, 0, 6);
    if (first != q->still_first) {
        q->still_first = first;
        q->still_since = uv_now(q->loop);
    }
    warn_of_partitions(q, m->store_partitions, (uint64_t)pg_cell_int8(res, 0, 7));
}

static void take_sessions(struct sequencer *q, const PGresult *res, uint64_t took_ms)
{
    int n = pg_cell_int4(res, 0, 0);
    (void)took_ms;
    if (n > 0) {
        q->metrics->store_sessions_ended += (uint64_t)n;
        log_warn("store",
                 "sessions of a broker that does not read its answers were ended: it is frozen, "
                 "and they may hold locks that others wait for",
                 LOG_F(log_int("sessions", n)));
    }
}

static void put_ahead(const struct sequencer *q, struct pg_args *args)
{
    pg_args_int8(args, (int64_t)q->opt.partition_ids);
}

static void put_events(const struct sequencer *q, struct pg_args *args)
{
    pg_args_int8(args, bounded(q->opt.retain_age_s));
    pg_args_int8(args, bounded(q->opt.retain_events));
    pg_args_int8(args, bounded(q->opt.retain_bytes));
    pg_args_int4(args, (int32_t)q->retain_rows);
}

static void take_events(struct sequencer *q, const PGresult *res, uint64_t took_ms)
{
    q->metrics->retained_removed += (uint64_t)pg_cell_int8(res, 0, 0);
    q->more_upkeep |= pg_cell_bool(res, 0, 1);
    if (took_ms > RETAIN_SLOW_MS && q->retain_rows / 2 >= RETAIN_ROWS_MIN) {
        q->retain_rows /= 2;
    } else if (took_ms < RETAIN_FAST_MS && q->retain_rows * 2 <= RETAIN_ROWS) {
        q->retain_rows *= 2;
    }
}

static void put_keys(const struct sequencer *q, struct pg_args *args)
{
    pg_args_int8(args, bounded(q->opt.key_window_s));
    pg_args_int4(args, RETAIN_ROWS);
}

static void take_keys(struct sequencer *q, const PGresult *res, uint64_t took_ms)
{
    (void)took_ms;
    q->more_upkeep |= pg_cell_int8(res, 0, 0) >= RETAIN_ROWS;
}

static void take_vacuum(struct sequencer *q, const PGresult *res, uint64_t took_ms)
{
    (void)res;
    (void)took_ms;
    q->rows_since_vacuum = 0;
    q->vacuumed_at = uv_now(q->loop);
}

#define SUCCEEDED(member) offsetof(struct broker_metrics, member)

static const struct step_kind kinds[UPKEEP_STEPS] = {
    [UPKEEP_FIGURES] = {"figures",
                        {"figures", "SELECT events, bytes, outbox_oldest_ms, open_publisher_ms,"
                                    " xmin_age, outbox_first, partitions, locks"
                                    " FROM tidegate.figures()"},
                        false,
                        true,
                        SUCCEEDED(upkeep_figures_s),
                        NULL,
                        take_figures},
    [UPKEEP_SESSIONS] = {"sessions",
                         {"sessions", "SELECT tidegate.end_unread()"},
                         false,
                         true,
                         SUCCEEDED(upkeep_sessions_s),
                         NULL,
                         take_sessions},
    [UPKEEP_PARTITIONS] = {"partitions",
                           {"ahead",
                            "SELECT tidegate.ahead((SELECT seq FROM tidegate.head), $1::bigint)"},
                           true,
                           false,
                           SUCCEEDED(upkeep_partitions_s),
                           put_ahead,
                           NULL},
    [UPKEEP_EVENTS] = {"events",
                       {"retain_events", "SELECT removed, more FROM tidegate.retain_events("
                                         "$1::bigint, $2::bigint, $3::bigint, $4::int)"},
                       true,
                       false,
                       SUCCEEDED(upkeep_events_s),
                       put_events,
                       take_events},
    [UPKEEP_KEYS] = {"keys",
                     {"retain_keys", "SELECT tidegate.retain_keys($1::bigint, $2::int)"},
                     true,
                     false,
                     SUCCEEDED(upkeep_keys_s),
                     put_keys,
                     take_keys},
    /* few at once: a row may be large */
    [UPKEEP_REJECTED] = {"rejected",
                         {"retain_rejected", "SELECT tidegate.retain_rejected(100)"},
                         true,
                         false,
                         SUCCEEDED(upkeep_rejected_s),
                         NULL,
                         NULL},
    [UPKEEP_WRITERS] = {"writers",
                        {"retain_writers", "SELECT tidegate.retain_writers()"},
                        true,
                        true,
                        SUCCEEDED(upkeep_writers_s),
                        NULL,
                        NULL},
    [UPKEEP_VACUUM] = {"vacuum",
                       {NULL, "VACUUM (TRUNCATE off) tidegate.outbox"},
                       true,
                       true,
                       SUCCEEDED(upkeep_vacuum_s),
                       NULL,
                       take_vacuum},
};

/* ---------------------------------------------------------------- how they went */

static void step_well(struct sequencer *q, enum upkeep_step i)
{
    struct upkeep_state *st = &q->steps[i];
    uint64_t *at = (uint64_t *)(void *)((char *)q->metrics + kinds[i].succeeded);
    if (st->logged) {
        log_info("store", "upkeep works again", LOG_F(log_str("step", kinds[i].name)));
    }
    *at = (uint64_t)(clock_unix_ms() / 1000);
    *st = (struct upkeep_state){.not_before = kinds[i].each ? uv_now(q->loop) + UPKEEP_MS / 2 : 0};
}

static void step_failed(struct sequencer *q, enum upkeep_step i, const struct pg_fault *f)
{
    struct upkeep_state *st = &q->steps[i];
    /* somebody's lock was in the way: next time */
    bool busy = strcmp(f->sqlstate, "55P03") == 0 || strcmp(f->sqlstate, "40P01") == 0;
    uint64_t now = uv_now(q->loop);
    st->failing_since = st->failing_since ? st->failing_since : now;
    st->not_before = now + (busy ? BUSY_MS : UPKEEP_MS / 2);
    (void)snprintf(st->error, sizeof st->error, "%s", f->text);
    if (i == UPKEEP_EVENTS && !busy) {
        q->retain_rows =
            q->retain_rows / 2 > RETAIN_ROWS_MIN ? q->retain_rows / 2 : RETAIN_ROWS_MIN;
    }
    if (!busy) {
        q->metrics->store_errors++;
        if (now >= st->log_at) {
            log_warn("store", "upkeep was refused",
                     LOG_F(log_str("step", kinds[i].name), log_str("sqlstate", f->sqlstate),
                           log_str("error", f->text)));
            st->logged = true;
            st->log_at = now + NOISE_MS;
        }
    }
}

static void step_next(struct sequencer *q);

static void on_step(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    struct sequencer *q = ctx;
    enum upkeep_step i = (enum upkeep_step)token;
    const struct pg_fault none = {.code = UV_EIO, .text = "no row"};
    if (q->closing || (f && f->code != UV_EIO)) {
        return; /* the connection: lost() follows */
    }
    if (!res || (kinds[i].st.name && PQntuples(res) != 1)) {
        step_failed(q, i, f ? f : &none);
    } else {
        step_well(q, i);
        if (kinds[i].take) {
            kinds[i].take(q, res, uv_now(q->loop) - q->step_began);
        }
    }
    q->step++;
    step_next(q);
}

static bool is_due(struct sequencer *q, enum upkeep_step i)
{
    uint64_t now = uv_now(q->loop);
    if (kinds[i].by_leader && !q->leading) {
        q->steps[i] = (struct upkeep_state){0}; /* another broker's by now */
        return false;
    }
    if (now < q->steps[i].not_before) {
        return false;
    }
    if (i == UPKEEP_VACUUM && q->rows_since_vacuum < VACUUM_ROWS &&
        (q->rows_since_vacuum == 0 || now - q->vacuumed_at < VACUUM_IDLE_MS)) {
        step_well(q, i); /* not wanted */
        return false;
    }
    return true;
}

static void step_next(struct sequencer *q)
{
    for (; q->step < UPKEEP_STEPS; q->step++) {
        enum upkeep_step i = q->step;
        struct pg_args args;
        if (!is_due(q, i)) {
            continue;
        }
        pg_args_init(&args, 64);
        if (kinds[i].args) {
            kinds[i].args(q, &args);
        }
        q->step_began = uv_now(q->loop);
        if (pg_client_ask(q->upkeep, &kinds[i].st, &args, on_step, q, i) == 0) {
            return;
        }
    }
    upkeep_rest(q, q->more_upkeep ? AGAIN_MS : UPKEEP_MS);
}

static void on_upkeep_timer(uv_timer_t *t)
{
    struct sequencer *q = t->data;
    if (pg_client_ready(q->upkeep)) {
        q->step = 0;
        q->more_upkeep = false;
        step_next(q);
    }
}

/* ---------------------------------------------------------------- the connection */

static void on_upkeep_ready(void *ctx)
{
    upkeep_rest(ctx, 1);
}

static void on_upkeep_lost(void *ctx, const struct err *e)
{
    struct sequencer *q = ctx;
    (void)uv_timer_stop(&q->upkeep_timer);
    for (int i = 0; i < UPKEEP_STEPS; i++) {
        struct upkeep_state *st = &q->steps[i];
        if (!st->failing_since && (q->leading || !kinds[i].by_leader)) {
            st->failing_since = uv_now(q->loop);
            (void)snprintf(st->error, sizeof st->error, "%.*s", (int)sizeof st->error - 1, e->text);
        }
    }
    q->events.lost(q->ctx, e);
}

const struct pg_client_events sequencer_upkeep_events = {
    .refuse = sequencer_refuse, .ready = on_upkeep_ready, .lost = on_upkeep_lost};

/* ---------------------------------------------------------------- what operators should know */

int sequencer_upkeep_complain(const struct sequencer *q, struct strbuf *out)
{
    uint64_t now = uv_now(q->loop);
    int rc = 0;
    if (q->still_first && now - q->still_since >= STILL_MS) {
        rc = strbuf_printf(out,
                           "the outbox does not move: its first row, %" PRId64
                           ", is the same for %" PRIu64 " s; ",
                           q->still_first, (now - q->still_since) / 1000);
    }
    for (int i = 0; i < UPKEEP_STEPS && rc == 0; i++) {
        const struct upkeep_state *st = &q->steps[i];
        bool ours = q->leading || !kinds[i].by_leader;
        if (ours && st->failing_since &&
            now - st->failing_since >= (uint64_t)q->opt.upkeep_alarm_s * 1000) {
            rc = strbuf_printf(out, "upkeep, step \"%s\", has failed for %" PRIu64 " s: %s; ",
                               kinds[i].name, (now - st->failing_since) / 1000, st->error);
        }
    }
    return rc;
}
