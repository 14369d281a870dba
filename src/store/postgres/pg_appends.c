/* What the broker was asked to publish: everything that arrived while one batch is in flight is the
 * next batch. Each batch has a number that the server keeps with its result, so that a batch whose
 * answer was lost is sent again without being stored again. */
#include "base/logging.h"
#include "base/xalloc.h"
#include "store/postgres/pg_store.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
    BATCH_EVENTS = 1000,
    BATCH_BYTES = 8 << 20,
    BATCH_SLACK = 64 << 10, /* array headers */
    CUT = 8,                /* a batch that takes too much: the next ones are 1/8 of it */
    GROW_SHARE = 5,         /* ... and larger again after one that took 1/5 of what it may */
    EVENT_SLACK = 64,
    RETRY_MS = 20,
};

static const struct pg_statement lead_statement = {"lead", PG_LEAD_SQL};
static const struct pg_statement append_statement = {
    "append", "SELECT seq, dup FROM tidegate.append($1::uuid, $2::bigint, $3::bigint, $4::bigint,"
              " $5::boolean, $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],"
              " $11::bigint[])"};

static void send_batch(struct pg_store *s);
static void kick(struct pg_store *s);
static void await_answer(struct pg_store *s, uint64_t ms);

/* ---------------------------------------------------------------- completing */

static void land(struct pg_store *s)
{
    s->appends.flight = PG_FLIGHT_NONE;
    s->appends.doubt = false;
    s->appends.flying_events = 0;
    (void)uv_timer_stop(&s->appends.timer);
}

static void fail_flying(struct pg_store *s, int code)
{
    land(s);
    append_complete_all(&s->appends.queue, &s->appends.flying, code);
}

static void fail_waiting(struct pg_store *s, int code)
{
    append_complete_all(&s->appends.queue, &s->appends.queue.waiting, code);
}

void pg_appends_acknowledge(struct pg_store *s)
{
    struct list *done = &s->appends.committed;
    while (!list_empty(done)) {
        struct append *a = list_first(done, struct append, node);
        if (a->need > s->tail.last) {
            break;
        }
        append_complete(&s->appends.queue, a, 0);
    }
    pg_store_settle(s);
}

void pg_appends_lost(struct pg_store *s, const struct store_leap *leap)
{
    list_for_each_safe (it, next, &s->appends.committed) {
        struct append *a = container_of(it, struct append, node);
        if (a->need > leap->after && a->need <= leap->upto) {
            append_complete(&s->appends.queue, a, UV_ECONNABORTED);
        }
    }
}

/* ---------------------------------------------------------------- the answer */

static void deliver_own(struct pg_store *s, struct event_list *fresh)
{
    if (!pg_tail_own(s, fresh->v, fresh->n)) {
        pg_tail_hint(s);
    }
    event_list_clear(fresh);
}

/* One row (first id, NULL): an id for each, one after the other. Else a row for each. */
static bool is_dense(const PGresult *res)
{
    return PQntuples(res) == 1 && PQgetisnull(res, 0, 1);
}

/* More at once while that is quick: a batch of twice as much must be in time, too. */
static void grow(struct pg_store *s)
{
    struct pg_appends *p = &s->appends;
    if ((uv_now(s->loop) - p->since) * GROW_SHARE < s->opt.append_timeout_ms) {
        p->max_events = p->max_events * 2 < BATCH_EVENTS ? p->max_events * 2 : BATCH_EVENTS;
        p->max_bytes = p->max_bytes * 2 < BATCH_BYTES ? p->max_bytes * 2 : BATCH_BYTES;
    }
}

static void take_acks(struct pg_store *s, const PGresult *res)
{
    struct event_list fresh = {0};
    bool dense = is_dense(res);
    int row = 0;
    list_for_each (it, &s->appends.flying) {
        struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n; i++, row++) {
            struct store_ack *ack = &a->acks[i];
            ack->id = dense ? (uint64_t)(pg_cell_int8(res, 0, 0) + row)
                            : (uint64_t)pg_cell_int8(res, row, 0);
            ack->duplicate = !dense && pg_cell_bool(res, row, 1);
            a->need = ack->id > a->need ? ack->id : a->need;
            if (!ack->duplicate) {
                a->events.v[i]->id = ack->id;
                event_list_push(&fresh, event_ref(a->events.v[i]));
            }
        }
    }
    grow(s);
    s->metrics->commits++;
    s->metrics->commit_events += fresh.n;
    list_splice_tail(&s->appends.committed, &s->appends.flying);
    land(s);
    deliver_own(s, &fresh);
    pg_appends_acknowledge(s);
}

/* ---------------------------------------------------------------- what goes wrong */

static bool is_class(const struct pg_fault *f, const char *class)
{
    return strncmp(f->sqlstate, class, strlen(class)) == 0;
}

/* The next batch is smaller than this one was; but one event, whatever it is. */
static void shrink(struct pg_appends *p)
{
    size_t bytes = 0;
    list_for_each (it, &p->flying) {
        bytes += container_of(it, struct append, node)->bytes;
    }
    p->max_events = p->flying_events > CUT ? p->flying_events / CUT : 1;
    p->max_bytes = bytes > CUT ? bytes / CUT : 1;
}

static bool is_single(const struct pg_appends *p)
{
    return p->flying.next->next == &p->flying;
}

/* How long the publishers of the batch may still wait. */
static uint64_t patience(const struct pg_store *s)
{
    uint64_t waited = uv_now(s->loop) - s->appends.since;
    return waited < s->opt.append_timeout_ms ? s->opt.append_timeout_ms - waited : 0;
}

static void on_retry(uv_timer_t *t)
{
    struct pg_store *s = t->data;
    if (s->appends.flight == PG_FLIGHT_DOUBT) {
        fail_flying(s, s->appends.doubt ? UV_ECONNABORTED : UV_ENOTCONN);
        kick(s);
        pg_store_settle(s);
    } else if (s->appends.flight == PG_FLIGHT_RETRY && s->appends.led) {
        send_batch(s);
    }
}

/* No answer: the server was stopped, or the network is cut. Nobody waits longer, and nobody comes
 * after them; the statement is left to end as it may, for a slow disk looks the same. */
static void overdue(struct pg_store *s)
{
    pg_store_trouble(s, PG_TROUBLE_APPEND, UV_ETIMEDOUT,
                     "the server does not answer (store.append_timeout_ms)");
    if (s->appends.flight == PG_FLIGHT_SENT) {
        s->metrics->store_errors++;
        s->appends.flight = PG_FLIGHT_LATE;
        shrink(&s->appends);
        append_complete_all(&s->appends.queue, &s->appends.flying, UV_ECONNABORTED);
    }
    s->appends.starting = false; /* on_led() lets them in again */
    fail_waiting(s, UV_ENOTCONN);
    pg_store_settle(s);
}

/* Of the batch, however often it was sent; of who waits for the first connection. Not when this
 * process itself stood still: the answer may lie in the socket, which comes after the timers. */
static void on_overdue(uv_timer_t *t)
{
    enum { AWAY_MS = 50, CHANCE_MS = 1000 };
    struct pg_store *s = t->data;
    if (!s->appends.excused && uv_now(s->loop) >= s->appends.due + AWAY_MS) {
        s->appends.excused = true;
        await_answer(s, CHANCE_MS);
        return;
    }
    overdue(s);
}

static void await_answer(struct pg_store *s, uint64_t ms)
{
    s->appends.due = uv_now(s->loop) + ms;
    REQUIRE(uv_timer_start(&s->appends.timer, on_overdue, ms, 0) == 0);
}

/* Of a statement: lead(), before which nothing is sent. */
static void on_slow(void *ctx)
{
    struct pg_store *s = ctx;
    if (s->appends.flight == PG_FLIGHT_NONE) {
        overdue(s);
    }
}

/* The server undid the batch. Once more, if that may help: somebody held a lock for too long. */
static bool retry(struct pg_store *s, const struct pg_fault *f)
{
    struct pg_appends *p = &s->appends;
    bool lock = is_class(f, "55P03") || is_class(f, "40") || is_class(f, "57014");
    if (!lock || patience(s) == 0) {
        return false;
    }
    p->flight = PG_FLIGHT_RETRY;
    REQUIRE(uv_timer_start(&p->timer, on_retry, RETRY_MS, 0) == 0);
    return true;
}

/* The batch took too much time or memory, and was undone, as were all tries of it: in parts. */
static bool divide(struct pg_store *s, const struct pg_fault *f)
{
    struct pg_appends *p = &s->appends;
    if (is_single(p) || p->doubt || !(is_class(f, "57014") || is_class(f, "53200"))) {
        return false;
    }
    shrink(p);
    while (!list_empty(&p->flying)) {
        append_queue_put_back(&p->queue, container_of(p->flying.prev, struct append, node));
    }
    land(s);
    return true;
}

/* Something in the batch is refused: each append on its own, so that only the bad one fails. */
static bool separate(struct pg_store *s, const struct pg_fault *f)
{
    struct pg_appends *p = &s->appends;
    if (is_single(p) || !(is_class(f, "22") || is_class(f, "23") || is_class(f, "54"))) {
        return false;
    }
    while (!list_empty(&p->flying)) {
        struct append *a = container_of(p->flying.prev, struct append, node);
        a->alone = true;
        append_queue_put_back(&p->queue, a);
    }
    land(s);
    return true;
}

static void refused(struct pg_store *s, const struct pg_fault *f)
{
    bool divided = divide(s, f);
    if (!divided && retry(s, f)) {
        return;
    }
    if (!divided && !separate(s, f)) {
        s->metrics->store_errors++;
        pg_store_trouble(s, PG_TROUBLE_APPEND, UV_EIO, f->text);
        fail_flying(s, s->appends.doubt ? UV_ECONNABORTED : UV_EIO);
    }
    kick(s);
    pg_store_settle(s);
}

/* The answer nobody waits for any more. What was stored comes through the tail. */
static void on_late_answer(struct pg_store *s, const PGresult *res, const struct pg_fault *f)
{
    land(s);
    if (res || f->code == UV_EIO) {
        pg_store_well(s, PG_TROUBLE_APPEND); /* it answers */
        pg_tail_hint(s);
        kick(s);
    }
    pg_store_settle(s);
}

/* Ids of new events are handed out above all leaps: on the server that orders. */
static bool is_lost(const struct pg_store *s, const PGresult *res)
{
    for (int i = 0; i < PQntuples(res); i++) {
        if (!pg_cell_bool(res, i, 1) && pg_store_is_lost(s, (uint64_t)pg_cell_int8(res, i, 0))) {
            return true;
        }
    }
    return false;
}

/* The connection broke, or leads astray. `sent`: the batch may be stored; the next one will tell. */
static void await_next_connection(struct pg_store *s, bool sent)
{
    struct pg_appends *p = &s->appends;
    p->doubt = p->doubt || sent;
    if (!p->doubt || s->parts_closing || patience(s) == 0) {
        fail_flying(s, p->doubt ? UV_ECONNABORTED : UV_ENOTCONN);
        return;
    }
    p->flight = PG_FLIGHT_DOUBT;
    REQUIRE(uv_timer_start(&p->timer, on_retry, patience(s), 0) == 0);
}

static void on_appended(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    struct pg_store *s = ctx;
    struct pg_appends *p = &s->appends;
    (void)token;
    if (p->flight == PG_FLIGHT_LATE) {
        on_late_answer(s, res, f);
        return;
    }
    if (p->flight != PG_FLIGHT_SENT) {
        return; /* given up meanwhile */
    }
    if (res && is_lost(s, res)) { /* stored by a server, or in a state, that is gone */
        pg_client_drop(p->client, "it has given ids that were lost");
        await_next_connection(s, true);
        return;
    }
    if (res && (is_dense(res) || (size_t)PQntuples(res) == p->flying_events)) {
        pg_store_well(s, PG_TROUBLE_APPEND);
        take_acks(s, res);
        kick(s);
        return;
    }
    if (f && f->code == UV_EIO) {
        refused(s, f);
        return;
    }
    await_next_connection(s, !f || f->code == UV_ECONNRESET || f->code == UV_ECANCELED);
}

/* ---------------------------------------------------------------- sending */

static struct slice stored_type(const struct event *ev)
{
    struct slice type = event_type(ev);
    return slice_is(type, "message") ? (struct slice){0} : type;
}

static void put_column(struct pg_args *args, const struct list *flying, size_t n,
                       struct slice (*field)(const struct event *ev))
{
    pg_args_array_begin(args, PG_OID_TEXT, n);
    list_for_each (it, flying) {
        const struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n; i++) {
            pg_args_array_text(args, field(a->events.v[i]));
        }
    }
    pg_args_array_end(args);
}

static void put_times(struct pg_args *args, const struct list *flying, size_t n)
{
    pg_args_array_begin(args, PG_OID_INT8, n);
    list_for_each (it, flying) {
        const struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n; i++) {
            pg_args_array_int8(args, a->events.v[i]->time_ms);
        }
    }
    pg_args_array_end(args);
}

static bool has_keys(const struct list *flying)
{
    list_for_each (it, flying) {
        const struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n; i++) {
            if (event_key(a->events.v[i]).n) {
                return true;
            }
        }
    }
    return false;
}

static void send_batch(struct pg_store *s)
{
    struct pg_appends *p = &s->appends;
    struct pg_args args;
    size_t bytes = 0, n = p->flying_events;
    list_for_each (it, &p->flying) {
        bytes += container_of(it, struct append, node)->bytes;
    }
    pg_args_init(&args, bytes + n * EVENT_SLACK + BATCH_SLACK);
    pg_args_bytes(&args, p->writer, sizeof p->writer);
    pg_args_int8(&args, p->batch);
    pg_args_int8(&args, (int64_t)s->opt.partition_ids);
    pg_args_int8(&args, (int64_t)s->tail.last);
    pg_args_bool(&args, s->opt.key_window_s > 0 && has_keys(&p->flying));
    put_column(&args, &p->flying, n, event_topic);
    put_column(&args, &p->flying, n, stored_type);
    put_column(&args, &p->flying, n, event_data);
    put_column(&args, &p->flying, n, event_attrs);
    put_column(&args, &p->flying, n, event_key);
    put_times(&args, &p->flying, n);
    p->flight = PG_FLIGHT_SENT;
    await_answer(s, patience(s));
    int rc = pg_client_ask(p->client, &append_statement, &args, on_appended, s, 0);
    if (rc) {
        struct pg_fault f = {.code = rc == UV_ENOTCONN ? rc : UV_EIO, .text = uv_strerror(rc)};
        on_appended(s, 0, NULL, &f);
    }
}

static void kick(struct pg_store *s)
{
    struct pg_appends *p = &s->appends;
    struct append *a;
    size_t bytes = 0;
    if (p->flight != PG_FLIGHT_NONE || !p->led || !append_queue_first(&p->queue)) {
        return;
    }
    while ((a = append_queue_first(&p->queue))) {
        if (p->flying_events && (a->alone || p->flying_events + a->events.n > p->max_events ||
                                 bytes + a->bytes > p->max_bytes)) {
            break;
        }
        append_queue_take(&p->queue, &p->flying);
        p->flying_events += a->events.n;
        bytes += a->bytes;
        if (a->alone) {
            break;
        }
    }
    p->batch++;
    p->since = uv_now(s->loop);
    p->excused = false;
    send_batch(s);
}

/* ---------------------------------------------------------------- accepting */

/* Never from inside append(): a refusal by libpq would call back before the call returns. */
static void on_kick(uv_timer_t *t)
{
    kick(t->data);
}

int pg_appends_push(struct pg_store *s, struct event_list *events, store_append_cb cb, void *ctx,
                    uint64_t token)
{
    struct pg_appends *p = &s->appends;
    if ((!p->led && !p->starting) || p->flight == PG_FLIGHT_LATE) {
        return UV_ENOTCONN;
    }
    int rc = append_queue_push(&p->queue, events, cb, ctx, token);
    if (rc == 0 && p->starting) {
        if (!uv_is_active((const uv_handle_t *)&p->timer)) { /* the first who waits sets the end */
            await_answer(s, s->opt.append_timeout_ms);
        }
    } else if (rc == 0 && p->flight == PG_FLIGHT_NONE) {
        REQUIRE(uv_timer_start(&p->timer, on_kick, 0, 0) == 0);
    }
    return rc;
}

bool pg_appends_idle(const struct pg_store *s)
{
    return s->appends.queue.events == 0;
}

bool pg_appends_flying(const struct pg_store *s)
{
    return s->appends.flight == PG_FLIGHT_SENT || s->appends.flight == PG_FLIGHT_LATE;
}

void pg_appends_abandon(struct pg_store *s, int code)
{
    fail_waiting(s, code);
    if (s->appends.flight != PG_FLIGHT_NONE) {
        fail_flying(s, UV_ECONNABORTED);
    }
    append_complete_all(&s->appends.queue, &s->appends.committed, UV_ECONNABORTED);
}

/* ---------------------------------------------------------------- connection */

static void on_led(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    struct pg_store *s = ctx;
    struct pg_appends *p = &s->appends;
    (void)token;
    if (!res) {
        if (!s->parts_closing) {
            pg_store_trouble(s, PG_TROUBLE_APPEND, f->code, f->text);
            pg_client_drop(p->client, "tidegate.lead() failed");
        }
        return;
    }
    p->led = true;
    p->starting = false;
    (void)uv_timer_stop(&p->timer);
    pg_store_well(s, PG_TROUBLE_APPEND);
    if (p->flight == PG_FLIGHT_DOUBT || p->flight == PG_FLIGHT_RETRY) {
        send_batch(s);
    } else {
        kick(s);
    }
}

static void on_ready(void *ctx)
{
    struct pg_store *s = ctx;
    struct pg_args args;
    pg_store_connected(s);
    pg_store_lead_args(s, &args);
    int rc = pg_client_ask(s->appends.client, &lead_statement, &args, on_led, s, 0);
    if (rc) {
        pg_store_trouble(s, PG_TROUBLE_APPEND, rc, uv_strerror(rc));
    }
}

static void on_lost(void *ctx, const struct err *e)
{
    struct pg_store *s = ctx;
    s->appends.led = s->appends.starting = false;
    if (s->appends.flight == PG_FLIGHT_RETRY) { /* was undone; not for ever */
        s->appends.flight = PG_FLIGHT_DOUBT;
        REQUIRE(uv_timer_start(&s->appends.timer, on_retry, patience(s), 0) == 0);
    } else if (s->appends.flight == PG_FLIGHT_NONE) {
        (void)uv_timer_stop(&s->appends.timer);
    }
    pg_store_trouble(s, PG_TROUBLE_APPEND, e->code, e->text);
    pg_store_lost(s, e);
    fail_waiting(s, UV_ENOTCONN); /* never sent: their publishers may try elsewhere */
    pg_store_settle(s);
}

void pg_appends_start(struct pg_store *s)
{
    struct pg_appends *p = &s->appends;
    p->max_events = BATCH_EVENTS;
    p->max_bytes = BATCH_BYTES;
    const struct pg_client_events events = {
        .refuse = pg_store_refuse, .ready = on_ready, .lost = on_lost, .slow = on_slow};
    const struct pg_client_options opt = {.conninfo = &s->conninfo,
                                          .role = "append",
                                          .setup = PG_SETUP ";" PG_LINEAGE_SQL,
                                          .connect_timeout_ms = PG_CONNECT_MS,
                                          .slow_ms = s->opt.append_timeout_ms,
                                          .answer_timeout_ms = PG_ANSWER_MS};
    append_queue_init(&p->queue, s->opt.max_queue_events, s->opt.max_queue_bytes, s->metrics);
    list_init(&p->flying);
    list_init(&p->committed);
    p->starting = true;
    REQUIRE(getrandom(p->writer, sizeof p->writer, 0) == (ssize_t)sizeof p->writer);
    REQUIRE(uv_timer_init(s->loop, &p->timer) == 0);
    p->timer.data = s;
    p->client = pg_client_new(s->loop, &opt, &events, s);
    s->parts += 2;
}

void pg_appends_close(struct pg_store *s)
{
    pg_appends_abandon(s, UV_ECANCELED);
    uv_close((uv_handle_t *)&s->appends.timer, pg_store_timer_closed);
    pg_client_close(s->appends.client, pg_store_part_closed, s);
}
