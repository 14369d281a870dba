/* The tail delivers all committed events, in the order of ids, once. A notification says when to
 * look, a poll makes sure, and the read by primary key decides.
 *
 * Ids have no holes but for leaps (another server took over) and removed events (retention). So the
 * events behind a hole are not delivered before the leaps have been read. */
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "store/postgres/pg_row.h"
#include "store/postgres/store_pg_state.h"

#include <stdlib.h>

enum {
    PAGE_EVENTS = 2000,
    PAGE_BYTES = 8 << 20,
    BUSY_MS = 50, /* between looks while events come */
    LOOK_MAX_MS = 5000,
    OWN_MS = 2, /* for the answer to a statement of ours, after its notification came */
    LEAPS_MAX = 1000,
};

static const struct pg_statement listen_statement = {NULL, "LISTEN tidegate"};
static const struct pg_statement look_statement = {
    "look", "SELECT h.seq, r.trimmed, (SELECT coalesce(max(upto), 0) FROM tidegate.leap),"
            " (SELECT coalesce(max(batch), 0) FROM tidegate.erased)"
            " FROM tidegate.head h, tidegate.retention r"};
static const struct pg_statement leaps_statement = {
    "leaps", "SELECT after, upto FROM (SELECT after, upto FROM tidegate.leap ORDER BY after DESC"
             " LIMIT 1000) l ORDER BY after"};

static const struct pg_statement lead_statement = {"lead", PG_LEAD_SQL};

static void pg_tail_look(struct store_pg *s);
static void pg_tail_lead(struct store_pg *s);
static void pg_tail_read_page(struct store_pg *s);
static void pg_tail_looked(struct store_pg *s);

/* ---------------------------------------------------------------- what was learned */

static void pg_tail_advance(struct store_pg *s, uint64_t last)
{
    struct pg_tail *t = &s->tail;
    t->last = last > t->last ? last : t->last;
    t->db_head = t->db_head > t->last ? t->db_head : t->last;
    s->metrics->store_head_seq = t->db_head;
    s->metrics->store_tail_lag = t->db_head - t->last;
}

static void pg_tail_deliver(struct store_pg *s, struct event *const *events, size_t n)
{
    if (n) {
        s->on_tail(s->tail_ctx, events, n);
        pg_tail_advance(s, events[n - 1]->id);
    }
}

static void pg_tail_leap(struct store_pg *s, const struct store_leap *l)
{
    log_warn(
        "store",
        "ids are left out, so that none is used twice: the server was restarted, another one has "
        "taken over, or the database was restored",
        LOG_F(log_uint("after", l->after), log_uint("upto", l->upto),
              log_uint("delivered", s->tail.last)));
    s->metrics->store_leaps++;
    s->leapt++;
    pg_appends_lost(s, l);
    s->on_leap(s->tail_ctx, l);
    pg_tail_advance(s, l->upto);
}

/* Passes the leaps that come before id `seq`. */
static void pg_tail_apply_leaps(struct store_pg *s, uint64_t seq)
{
    while (s->leaps_applied < s->leap_count && s->leaps[s->leaps_applied].after < seq) {
        struct store_leap l = s->leaps[s->leaps_applied++];
        if (l.upto > s->tail.last) {
            pg_tail_leap(s, &l);
        }
    }
}

/* Retention has removed events that this broker had not read yet: it was away for long. */
static void pg_tail_fell_behind(struct store_pg *s, uint64_t upto)
{
    struct store_leap l = {s->tail.last, upto};
    log_warn("store", "events were removed before they could be delivered",
             LOG_F(log_uint("after", l.after), log_uint("upto", l.upto)));
    s->on_leap(s->tail_ctx, &l);
    pg_tail_advance(s, upto);
}

/* May the row `seq` be delivered next? */
static bool pg_tail_may_follow(struct store_pg *s, uint64_t seq)
{
    pg_tail_apply_leaps(s, seq);
    if (seq <= s->tail.last + 1) {
        return true;
    }
    if (seq - 1 <= s->trimmed || s->trimmed > s->tail.last) {
        pg_tail_fell_behind(s, s->trimmed < seq ? s->trimmed : seq - 1);
    }
    if (seq > s->tail.last + 1 && s->tail.unexplained && s->erased.newest < seq - 1) {
        log_error("store", "ids are missing in tidegate.events: rows were removed by hand",
                  LOG_F(log_uint("after", s->tail.last), log_uint("before", seq)));
    }
    return seq <= s->tail.last + 1 || s->tail.unexplained;
}

/* ---------------------------------------------------------------- waiting for what is committed */

static void pg_tail_syncs_settle(struct store_pg *s, int rc)
{
    list_for_each_safe (it, next, &s->tail.syncs) {
        struct pg_sync *y = container_of(it, struct pg_sync, node);
        if (rc || (y->known && y->need <= s->tail.last)) {
            list_del(&y->node);
            y->cb(y->ctx, y->token, rc);
            free(y);
        }
    }
}

static void pg_tail_syncs_asked(struct store_pg *s)
{
    list_for_each (it, &s->tail.syncs) {
        container_of(it, struct pg_sync, node)->asked = true;
    }
}

static void pg_tail_syncs_known(struct store_pg *s, uint64_t head)
{
    list_for_each (it, &s->tail.syncs) {
        struct pg_sync *y = container_of(it, struct pg_sync, node);
        if (y->asked && !y->known) {
            y->known = true;
            y->need = head;
        }
    }
}

int pg_tail_sync(struct store_pg *s, store_sync_cb cb, void *ctx, uint64_t token)
{
    if (!pg_client_takes(s->tail.client)) {
        return UV_ENOTCONN;
    }
    struct pg_sync *y = xcalloc(1, sizeof *y);
    y->cb = cb;
    y->ctx = ctx;
    y->token = token;
    list_add_tail(&s->tail.syncs, &y->node);
    if (s->tail.busy) {
        s->tail.again = true;
    } else if (pg_client_ready(s->tail.client)) { /* else as soon as it is */
        pg_tail_look(s);
    }
    return 0;
}

/* ---------------------------------------------------------------- statements */

static void pg_tail_on_timer(uv_timer_t *timer)
{
    struct store_pg *s = timer->data;
    if (!s->tail.busy && pg_client_ready(s->tail.client)) {
        pg_tail_look(s);
    }
}

static void pg_tail_rest(struct store_pg *s, bool had_events)
{
    struct pg_tail *t = &s->tail;
    t->busy = false;
    t->unexplained = false;
    t->led = false;
    store_pg_well(s, STORE_PG_FAULT_TAIL);
    pg_appends_acknowledge(s);
    pg_tail_syncs_settle(s, 0);
    if (t->busy || !pg_client_ready(t->client)) {
        return; /* a callback asked for more */
    }
    if (t->again) {
        t->again = false;
        pg_tail_look(s);
        return;
    }
    if (t->heard > t->last) {
        pg_tail_heard(s, t->heard);
    }
    if (t->busy) {
        return;
    }
    t->wait_ms = had_events ? BUSY_MS : t->wait_ms * 2;
    t->wait_ms = t->wait_ms > s->opt.poll_ms ? s->opt.poll_ms : t->wait_ms;
    /* the newest timeline must be heard of well within the grace time of pg_lineage.c */
    t->wait_ms = t->wait_ms > LOOK_MAX_MS ? LOOK_MAX_MS : t->wait_ms;
    REQUIRE(uv_timer_start(&t->timer, pg_tail_on_timer, t->wait_ms, 0) == 0);
}

static void pg_tail_failed(struct store_pg *s, const struct pg_fault *f)
{
    struct pg_tail *t = &s->tail;
    t->busy = t->again = t->led = false;
    if (s->closing) {
        return;
    }
    s->metrics->store_errors++;
    store_pg_fault(s, STORE_PG_FAULT_TAIL, f->code, f->text);
    pg_tail_syncs_settle(s, UV_ENOTCONN);
    t->wait_ms = s->opt.poll_ms < BUSY_MS * 4 ? s->opt.poll_ms : BUSY_MS * 4;
    REQUIRE(uv_timer_start(&t->timer, pg_tail_on_timer, t->wait_ms, 0) == 0);
}

static void pg_tail_ask(struct store_pg *s, const struct pg_statement *st, struct pg_args *args,
                        pg_done_cb done)
{
    s->tail.busy = true;
    int rc = pg_client_ask(s->tail.client, st, args, done, s, 0);
    if (rc) {
        struct pg_fault f = {.code = rc, .text = uv_strerror(rc)};
        pg_tail_failed(s, &f);
    }
}

enum taken { TAKEN_ALL, TAKEN_GAP, TAKEN_SOME /* no memory for the rest */ };

/* How long ago a row of a page got its id, by the server's clock. */
static uint64_t pg_tail_age_us(const PGresult *res, int row)
{
    int64_t age = pg_cell_int8(res, row, PG_PAGE_NOW) - pg_cell_int8(res, row, PG_PAGE_AT);
    return age > 0 ? (uint64_t)age : 0;
}

/* What it was about is not known. `rejected`: the row before it was, too, and that was said. */
static void pg_tail_reject(struct store_pg *s, struct event_list *events, uint64_t seq,
                           const char *reason, bool rejected)
{
    store_pg_bad_row(s, seq, reason);
    pg_tail_deliver(s, events->v, events->n);
    event_list_clear(events);
    if (!rejected) {
        s->on_tail(s->tail_ctx, NULL, 0);
    }
}

/* Delivers rows that begin at `column`, but for those that came another way meanwhile. `taken_us`: so
 * long ago the outbox was asked for them; NULL: they are a page. */
static enum taken pg_tail_take_rows(struct store_pg *s, const PGresult *res, int column, int rows,
                                    const uint64_t *taken_us)
{
    struct event_list events = {0};
    uint64_t now = uv_hrtime();
    enum taken taken = TAKEN_ALL;
    uint64_t next = s->tail.last;
    bool rejected = false;
    for (int i = 0; i < rows && taken == TAKEN_ALL; i++) {
        const char *reason = NULL;
        uint64_t seq = (uint64_t)pg_cell_int8(res, i, column);
        if (seq <= s->tail.last || seq <= next) {
            continue;
        }
        if (seq != next + 1) {
            pg_tail_deliver(s, events.v, events.n);
            event_list_clear(&events);
            pg_tail_advance(s, next);
            if (!pg_tail_may_follow(s, seq)) {
                return TAKEN_GAP;
            }
            if (seq <= s->tail.last) {
                pg_tail_reject(s, &events, seq,
                               "its id lies in a leap: tidegate.leap was changed by hand",
                               rejected);
                rejected = true;
                next = s->tail.last;
                continue;
            }
        }
        struct event *ev = pg_row_event(res, i, column, s->opt.event_bytes, &reason);
        if (ev) {
            ev->since_us = event_since(now, taken_us ? *taken_us : pg_tail_age_us(res, i));
            event_list_push(&events, ev);
            rejected = false;
        } else if (reason) {
            pg_tail_reject(s, &events, seq, reason, rejected);
            rejected = true;
        } else {
            taken = TAKEN_SOME;
            break;
        }
        next = seq;
    }
    pg_tail_deliver(s, events.v, events.n);
    event_list_clear(&events);
    pg_tail_advance(s, next);
    return taken;
}

static void pg_tail_on_page(void *ctx, uint64_t token, const PGresult *res,
                            const struct pg_fault *f)
{
    struct store_pg *s = ctx;
    bool full = false;
    (void)token;
    if (!res || PQntuples(res) < 1) {
        pg_tail_failed(s, f ? f : &(struct pg_fault){.code = UV_EIO, .text = "no row"});
        return;
    }
    int rows = PQgetisnull(res, 0, PG_PAGE_ROW) ? 0 : PQntuples(res);
    /* where events of others come all the time there are pages, and no looks */
    pg_lineage_heard(&s->lineage, uv_now(s->loop));
    if ((uint64_t)pg_cell_int8(res, 0, PG_PAGE_HEAD) < s->tail.asked) {
        pg_tail_lead(s);
        return;
    }
    s->trimmed = (uint64_t)pg_cell_int8(res, 0, PG_PAGE_TRIMMED);
    full = rows && (rows < pg_cell_int8(res, 0, PG_PAGE_TOTAL) || rows >= PAGE_EVENTS);
    switch (pg_tail_take_rows(s, res, PG_PAGE_ROW, rows, NULL)) {
    case TAKEN_GAP:
        s->tail.unexplained = true; /* look at the leaps, then come back */
        pg_tail_look(s);
        return;
    case TAKEN_SOME:
        full = true;
        break;
    case TAKEN_ALL:
        break;
    }
    if (full) {
        pg_appends_acknowledge(s);
        pg_tail_read_page(s);
        return;
    }
    pg_tail_apply_leaps(s, UINT64_MAX);
    if (s->trimmed > s->tail.last) {
        pg_tail_fell_behind(s, s->trimmed);
    }
    pg_tail_rest(s, rows > 0);
}

static void pg_tail_read_page(struct store_pg *s)
{
    struct pg_args args;
    s->tail.asked = s->tail.last;
    s->tail.heard = 0; /* it was committed before: the page has it, if it is there at all */
    pg_args_init(&args, 256);
    pg_args_int8(&args, (int64_t)s->tail.last);
    pg_args_int8(&args, INT64_MAX);
    pg_args_int8(&args, PAGE_EVENTS);
    pg_args_int8(&args, PAGE_BYTES);
    pg_tail_ask(s, &pg_page_statement, &args, pg_tail_on_page);
}

static void pg_tail_on_leaps(void *ctx, uint64_t token, const PGresult *res,
                             const struct pg_fault *f)
{
    struct store_pg *s = ctx;
    (void)token;
    if (!res) {
        pg_tail_failed(s, f);
        return;
    }
    /* told apart by where they end: an older state of the database begins its leap where another
     * one began before */
    uint64_t passed = s->leaps_applied ? s->leaps[s->leaps_applied - 1].upto : 0;
    int rows = PQntuples(res) < LEAPS_MAX ? PQntuples(res) : LEAPS_MAX;
    s->leap_count = s->leaps_applied = 0;
    for (int i = 0; i < rows; i++) {
        struct store_leap l = {(uint64_t)pg_cell_int8(res, i, 0),
                               (uint64_t)pg_cell_int8(res, i, 1)};
        s->leaps_applied += l.upto <= passed;
        s->leaps[s->leap_count++] = l;
        s->tail.last_leap = l.upto;
    }
    pg_tail_read_page(s);
}

static void pg_tail_on_lead(void *ctx, uint64_t token, const PGresult *res,
                            const struct pg_fault *f)
{
    (void)token;
    if (!res) {
        pg_tail_failed(ctx, f);
        return;
    }
    pg_tail_look(ctx);
}

/* The head is gone, or below what has been delivered: the database was put back to an older state
 * while it was in use. What this broker has seen is the proof; the ids leap over it. */
static void pg_tail_lead(struct store_pg *s)
{
    struct pg_args args;
    if (s->tail.led) { /* not at once again and again */
        pg_tail_failed(s, &(struct pg_fault){.code = UV_EIO,
                                             .text = "the tables contradict each other, also "
                                                     "after tidegate.lead()"});
        return;
    }
    s->tail.led = true;
    store_pg_lead_args(s, &args);
    pg_tail_ask(s, &lead_statement, &args, pg_tail_on_lead);
}

static void pg_tail_on_erased(void *ctx, uint64_t token, const PGresult *res,
                              const struct pg_fault *f)
{
    struct store_pg *s = ctx;
    bool more;
    (void)token;
    if (!res) {
        pg_tail_failed(s, f);
        return;
    }
    pg_erase_take(s, res, &more);
    s->tail.erased = more ? s->tail.erased : s->erased.batch;
    pg_tail_looked(s);
}

/* What the look has found, one after the other. */
static void pg_tail_looked(struct store_pg *s)
{
    struct pg_tail *t = &s->tail;
    struct pg_args args;
    if (t->erased > s->erased.batch || s->erased.seq != INT64_MAX) {
        const struct pg_statement *st = pg_erase_look(s, &args);
        pg_tail_ask(s, st, &args, pg_tail_on_erased);
    } else if (t->leapt_to > t->last_leap || t->unexplained) {
        pg_tail_ask(s, &leaps_statement, NULL, pg_tail_on_leaps);
    } else if (t->db_head > t->last) {
        pg_tail_read_page(s);
    } else {
        pg_tail_rest(s, false);
    }
}

static void pg_tail_on_look(void *ctx, uint64_t token, const PGresult *res,
                            const struct pg_fault *f)
{
    struct store_pg *s = ctx;
    struct pg_tail *t = &s->tail;
    (void)token;
    if (!res) {
        pg_tail_failed(s, f);
        return;
    }
    uint64_t head = PQntuples(res) == 1 ? (uint64_t)pg_cell_int8(res, 0, 0) : 0;
    pg_lineage_heard(&s->lineage, uv_now(s->loop));
    if (head < t->asked) {
        pg_tail_lead(s);
        return;
    }
    t->leapt_to = (uint64_t)pg_cell_int8(res, 0, 2);
    t->erased = pg_cell_int8(res, 0, 3);
    s->trimmed = (uint64_t)pg_cell_int8(res, 0, 1);
    t->db_head = head;
    pg_tail_advance(s, t->last);
    pg_tail_syncs_known(s, head);
    pg_tail_looked(s);
}

static void pg_tail_look(struct store_pg *s)
{
    (void)uv_timer_stop(&s->tail.timer);
    pg_tail_syncs_asked(s);
    s->tail.asked = s->tail.last;
    pg_tail_ask(s, &look_statement, NULL, pg_tail_on_look);
}

/* ---------------------------------------------------------------- events of this broker */

bool pg_tail_own(struct store_pg *s, struct event *const *events, size_t n)
{
    if (n == 0 || events[0]->id != s->tail.last + 1 || s->leaps_applied < s->leap_count) {
        return false;
    }
    pg_tail_deliver(s, events, n);
    return true;
}

bool pg_tail_given(struct store_pg *s, const PGresult *rows, int column, uint64_t taken_us)
{
    if ((uint64_t)pg_cell_int8(rows, 0, column) != s->tail.last + 1 ||
        s->leaps_applied < s->leap_count) {
        return false;
    }
    bool all = pg_tail_take_rows(s, rows, column, PQntuples(rows), &taken_us) == TAKEN_ALL;
    pg_appends_acknowledge(s);
    pg_tail_syncs_settle(s, 0);
    return all;
}

void pg_tail_hint(struct store_pg *s)
{
    struct pg_tail *t = &s->tail;
    if (t->busy) {
        t->again = true;
    } else if (pg_client_ready(t->client)) {
        (void)uv_timer_stop(&t->timer);
        pg_tail_read_page(s);
    }
}

static void pg_tail_on_late(uv_timer_t *timer)
{
    struct store_pg *s = timer->data;
    if (s->tail.heard > s->tail.last && !s->tail.busy) {
        pg_tail_hint(s);
    }
}

/* Each batch is heard of twice or more: when its statement is answered, from its notification on
 * this connection, and read once. A statement of ours that is about to be answered brings its
 * events itself: a little patience saves the read. */
void pg_tail_heard(struct store_pg *s, uint64_t last)
{
    struct pg_tail *t = &s->tail;
    t->heard = last > t->heard ? last : t->heard;
    if (t->heard <= t->last || t->busy) {
        return; /* pg_tail_rest() asks again */
    }
    if (!pg_appends_is_sent(s) && !sequencer_is_draining(s->sequencer)) {
        pg_tail_hint(s);
    } else if (!uv_is_active((uv_handle_t *)&t->late_timer)) {
        REQUIRE(uv_timer_start(&t->late_timer, pg_tail_on_late, OWN_MS, 0) == 0);
    }
}

/* ---------------------------------------------------------------- connection */

static void pg_tail_on_listening(void *ctx, uint64_t token, const PGresult *res,
                                 const struct pg_fault *f)
{
    (void)token;
    if (!res) {
        pg_tail_failed(ctx, f);
        return;
    }
    pg_tail_look(ctx);
}

static void pg_tail_on_ready(void *ctx)
{
    struct store_pg *s = ctx;
    s->tail.wait_ms = BUSY_MS;
    s->tail.again = s->tail.led = false;
    store_pg_connected(s);
    pg_tail_ask(s, &listen_statement, NULL, pg_tail_on_listening);
}

static void pg_tail_on_lost(void *ctx, const struct err *e)
{
    struct store_pg *s = ctx;
    (void)uv_timer_stop(&s->tail.timer);
    s->tail.busy = false;
    store_pg_fault(s, STORE_PG_FAULT_TAIL, e->code, e->text);
    store_pg_lost(s, e);
    pg_tail_syncs_settle(s, UV_ENOTCONN);
}

static void pg_tail_on_slow(void *ctx)
{
    store_pg_fault(ctx, STORE_PG_FAULT_TAIL, UV_ETIMEDOUT,
                   "the server does not answer (store.append_timeout_ms)");
}

/* The newest id of a batch; or "leap". */
static void pg_tail_on_notified(void *ctx, const char *payload)
{
    struct store_pg *s = ctx;
    char *end = NULL;
    uint64_t last = strtoull(payload, &end, 10);
    if (end != payload && *end == '\0' && last <= EVENT_ID_MAX) {
        pg_tail_heard(s, last);
        return;
    }
    s->tail.again = s->tail.again || s->tail.busy;
    if (!s->tail.busy) {
        pg_tail_look(s);
    }
}

void pg_tail_start(struct store_pg *s, uint64_t head)
{
    const struct pg_client_events events = {.refuse = store_pg_refuse,
                                            .ready = pg_tail_on_ready,
                                            .lost = pg_tail_on_lost,
                                            .notified = pg_tail_on_notified,
                                            .slow = pg_tail_on_slow};
    const struct pg_client_options opt = {.conninfo = &s->conninfo,
                                          .role = "tail",
                                          .setup = PG_SETUP ";" PG_LINEAGE_SQL,
                                          .connect_timeout_ms = PG_CONNECT_MS,
                                          .slow_ms = s->opt.append_timeout_ms,
                                          .answer_timeout_ms = PG_ANSWER_MS};
    list_init(&s->tail.syncs);
    s->tail.last = s->tail.db_head = head;
    REQUIRE(uv_timer_init(s->loop, &s->tail.timer) == 0);
    REQUIRE(uv_timer_init(s->loop, &s->tail.late_timer) == 0);
    s->tail.timer.data = s->tail.late_timer.data = s;
    s->tail.client = pg_client_new(s->loop, &opt, &events, s);
    s->parts += 3;
}

void pg_tail_close(struct store_pg *s)
{
    pg_tail_syncs_settle(s, UV_ECANCELED);
    uv_close((uv_handle_t *)&s->tail.timer, store_pg_timer_closed);
    uv_close((uv_handle_t *)&s->tail.late_timer, store_pg_timer_closed);
    pg_client_close(s->tail.client, store_pg_part_closed, s);
}
