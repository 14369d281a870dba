/* Group commit of what this broker publishes: what arrives while one batch is under way is the next
 * batch. Each batch has a number, which the server stores with the result. So a batch whose answer
 * was lost can be sent again without being stored twice.
 *
 * States of the batch (pg_appends.state), and the functions that change them:
 *
 *   NONE  -> SENT    start_next(): takes appends off the queue, gives them a number, sends them;
 *                    after a fault, if nobody publishes for PROBE_MS: a batch of nothing
 *   SENT  -> NONE    on_answer(): ids (take_acks), or a refusal for good (on_refused): all of the
 *                    batch fail, or divide() or separate() put the appends back, to be sent in parts
 *   SENT  -> RETRY   retry(): undone because of a lock or a time limit, and there is time left
 *   SENT  -> DOUBT   await_next_connection(): the connection broke, or the ids in the answer belong
 *                    to a state of the database that is gone; the batch may be stored
 *   SENT  -> NONE    the same when nothing can have been stored, or no time is left: all fail
 *   SENT  -> LATE    give_up(), on_due(): no answer within store.append_timeout_ms: all fail, and
 *                    nothing more is accepted
 *   RETRY -> SENT    on_retry() after RETRY_MS, with the same number
 *   RETRY -> DOUBT   on_lost()
 *   DOUBT -> SENT    on_lead(): there is a connection again; the same number
 *   DOUBT -> NONE    on_retry(): no connection in time: all fail
 *   LATE  -> NONE    on_late_answer(): an answer, or the end of the connection
 *   any   -> NONE    pg_appends_abandon(): the store closes
 *
 * Invariants:
 *
 *   1. At most one batch is under way, and `batch` is empty in NONE and LATE.
 *   2. Nothing is sent before lead() has been answered on this connection (`ids_reserved`).
 *   3. A batch keeps its number from NONE to NONE. No other batch of this
 *      `writer` ever has that number.
 *   4. An append succeeds only after its events are stored and the tail has passed them: it waits
 *      in `committed` until pg_appends_acknowledge().
 *   5. An append that fails with UV_ENOTCONN or UV_EIO is not stored. Where that is not known, it
 *      fails with UV_ECONNABORTED. `doubt` says that a try before this one may have been stored.
 *   6. `timer` has one meaning in each state: NONE: start soon, after a fault at the latest after
 *      PROBE_MS, or (`starting`) the end of the wait for the first connection; SENT: no answer in
 *      time; RETRY: send again; DOUBT: no connection in time; LATE: not armed.
 *   7. A batch has at most max_events and max_bytes, or is a single append. shrink() lowers both
 *      after a batch that took too much time or memory, grow() raises them after a quick one. */
#include "base/container_of.h"
#include "base/logging.h"
#include "base/require.h"
#include "store/postgres/store_pg_state.h"

#include <sys/random.h>

enum {
    BATCH_EVENTS = 1000,
    BATCH_BYTES = 8 << 20,
    BATCH_SLACK = 64 << 10, /* array headers */
    CUT = 8,                /* a batch that takes too much: the next ones are 1/8 of it */
    GROW_SHARE = 5,         /* ... and larger again after one that took 1/5 of what it may */
    EVENT_SLACK = 64,
    RETRY_MS = 20,
    PROBE_MS = 1000,
};

static const struct pg_statement lead_statement = {"lead", PG_LEAD_SQL};
static const struct pg_statement append_statement = {
    "append", "SELECT seq, dup FROM tidegate.append($1::uuid, $2::bigint, $3::bigint, $4::bigint,"
              " $5::boolean, $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],"
              " $11::bigint[], $12::bigint[])"};

static void pg_appends_batch_send(struct store_pg *s);
static void pg_appends_start_next(struct store_pg *s);
static void pg_appends_await_answer(struct store_pg *s, uint64_t ms);

/* ---------------------------------------------------------------- completing */

static void pg_appends_batch_finish(struct store_pg *s)
{
    s->appends.state = PG_BATCH_NONE;
    s->appends.doubt = false;
    s->appends.batch_events = 0;
    (void)uv_timer_stop(&s->appends.timer);
}

static void pg_appends_batch_fail(struct store_pg *s, int code)
{
    pg_appends_batch_finish(s);
    append_complete_all(&s->appends.queue, &s->appends.batch, code);
}

static void pg_appends_fail_waiting(struct store_pg *s, int code)
{
    append_complete_all(&s->appends.queue, &s->appends.queue.waiting, code);
}

void pg_appends_acknowledge(struct store_pg *s)
{
    struct list *done = &s->appends.committed;
    while (!list_empty(done)) {
        struct append *a = list_first(done, struct append, node);
        if (a->need > s->tail.last) {
            break;
        }
        append_complete(&s->appends.queue, a, 0);
    }
    store_pg_settle(s);
}

void pg_appends_lost(struct store_pg *s, const struct store_leap *leap)
{
    list_for_each_safe (it, next, &s->appends.committed) {
        struct append *a = container_of(it, struct append, node);
        if (a->need > leap->after && a->need <= leap->upto) {
            append_complete(&s->appends.queue, a, UV_ECONNABORTED);
        }
    }
}

/* ---------------------------------------------------------------- the answer */

static void pg_appends_deliver_own(struct store_pg *s, struct event_list *fresh)
{
    if (!pg_tail_own(s, fresh->v, fresh->n)) {
        pg_tail_hint(s);
    }
    event_list_clear(fresh);
}

/* One row (first id, NULL): an id for each, one after the other. Else a row for each. */
static bool pg_appends_is_dense(const PGresult *res)
{
    return PQntuples(res) == 1 && PQgetisnull(res, 0, 1);
}

/* More at once while that is quick: a batch of twice as much must be in time, too. */
static void pg_appends_grow(struct store_pg *s)
{
    struct pg_appends *p = &s->appends;
    if ((uv_now(s->loop) - p->since) * GROW_SHARE < s->opt.append_timeout_ms) {
        p->max_events = p->max_events * 2 < BATCH_EVENTS ? p->max_events * 2 : BATCH_EVENTS;
        p->max_bytes = p->max_bytes * 2 < BATCH_BYTES ? p->max_bytes * 2 : BATCH_BYTES;
    }
}

static void pg_appends_take_acks(struct store_pg *s, const PGresult *res)
{
    struct pg_appends *p = &s->appends;
    struct event_list fresh = {0};
    bool dense = pg_appends_is_dense(res);
    int row = 0;
    list_for_each (it, &p->batch) {
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
    if (p->batch_events) { /* else it was a probe */
        pg_appends_grow(s);
        s->metrics->commits++;
        s->metrics->commit_events += fresh.n;
    }
    list_splice_tail(&p->committed, &p->batch);
    pg_appends_batch_finish(s);
    pg_appends_deliver_own(s, &fresh);
    pg_appends_acknowledge(s);
}

/* ---------------------------------------------------------------- what goes wrong */

static bool pg_appends_is_class(const struct pg_fault *f, const char *class)
{
    return strncmp(f->sqlstate, class, strlen(class)) == 0;
}

/* The next batch is smaller than this one was, but has at least one event. */
static void pg_appends_shrink(struct pg_appends *p)
{
    size_t bytes = 0;
    list_for_each (it, &p->batch) {
        bytes += container_of(it, struct append, node)->bytes;
    }
    p->max_events = p->batch_events > CUT ? p->batch_events / CUT : 1;
    p->max_bytes = bytes > CUT ? bytes / CUT : 1;
}

static bool pg_appends_is_single(const struct pg_appends *p)
{
    return p->batch.next->next == &p->batch;
}

/* How long the publishers of the batch may still wait. */
static uint64_t pg_appends_time_left(const struct store_pg *s)
{
    uint64_t waited = uv_now(s->loop) - s->appends.since;
    return waited < s->opt.append_timeout_ms ? s->opt.append_timeout_ms - waited : 0;
}

static void pg_appends_on_retry(uv_timer_t *t)
{
    struct store_pg *s = t->data;
    if (s->appends.state == PG_BATCH_DOUBT) {
        pg_appends_batch_fail(s, s->appends.doubt ? UV_ECONNABORTED : UV_ENOTCONN);
        pg_appends_start_next(s);
        store_pg_settle(s);
    } else if (s->appends.state == PG_BATCH_RETRY && s->appends.ids_reserved) {
        pg_appends_batch_send(s);
    }
}

/* No answer: the server was stopped, or the network is cut. Nobody waits longer, and nobody comes
 * after them; the statement is left to end as it may, for a slow disk looks the same. */
static void pg_appends_give_up(struct store_pg *s)
{
    store_pg_fault(s, STORE_PG_FAULT_APPEND, UV_ETIMEDOUT,
                   "the server does not answer (store.append_timeout_ms)");
    if (s->appends.state == PG_BATCH_SENT) {
        s->metrics->store_errors++;
        s->appends.state = PG_BATCH_LATE;
        pg_appends_shrink(&s->appends);
        append_complete_all(&s->appends.queue, &s->appends.batch, UV_ECONNABORTED);
    }
    s->appends.starting = false; /* pg_appends_on_lead() lets them in again */
    pg_appends_fail_waiting(s, UV_ENOTCONN);
    store_pg_settle(s);
}

/* Of the batch, however often it was sent; of who waits for the first connection. Not when this
 * process itself stood still: the answer may lie in the socket, which comes after the timers. */
static void pg_appends_on_due(uv_timer_t *t)
{
    enum { AWAY_MS = 50, CHANCE_MS = 1000 };
    struct store_pg *s = t->data;
    if (!s->appends.excused && uv_now(s->loop) >= s->appends.due + AWAY_MS) {
        s->appends.excused = true;
        pg_appends_await_answer(s, CHANCE_MS);
        return;
    }
    pg_appends_give_up(s);
}

static void pg_appends_await_answer(struct store_pg *s, uint64_t ms)
{
    s->appends.due = uv_now(s->loop) + ms;
    REQUIRE(uv_timer_start(&s->appends.timer, pg_appends_on_due, ms, 0) == 0);
}

/* Of a statement: lead(), before which nothing is sent. */
static void pg_appends_on_slow(void *ctx)
{
    struct store_pg *s = ctx;
    if (s->appends.state == PG_BATCH_NONE) {
        pg_appends_give_up(s);
    }
}

/* The server undid the batch. True: another try may help, because another session held a lock for too
 * long. */
static bool pg_appends_retry(struct store_pg *s, const struct pg_fault *f)
{
    struct pg_appends *p = &s->appends;
    bool lock = pg_appends_is_class(f, "55P03") || pg_appends_is_class(f, "40") ||
                pg_appends_is_class(f, "57014");
    if (!lock || pg_appends_time_left(s) == 0) {
        return false;
    }
    p->state = PG_BATCH_RETRY;
    REQUIRE(uv_timer_start(&p->timer, pg_appends_on_retry, RETRY_MS, 0) == 0);
    return true;
}

/* The batch took too much time or memory, and was undone, as were all tries of it: in parts. */
static bool pg_appends_divide(struct store_pg *s, const struct pg_fault *f)
{
    struct pg_appends *p = &s->appends;
    if (pg_appends_is_single(p) || p->doubt ||
        !(pg_appends_is_class(f, "57014") || pg_appends_is_class(f, "53200"))) {
        return false;
    }
    pg_appends_shrink(p);
    while (!list_empty(&p->batch)) {
        append_queue_put_back(&p->queue, container_of(p->batch.prev, struct append, node));
    }
    pg_appends_batch_finish(s);
    return true;
}

/* Something in the batch is refused: each append on its own, so that only the bad one fails. */
static bool pg_appends_separate(struct store_pg *s, const struct pg_fault *f)
{
    struct pg_appends *p = &s->appends;
    if (pg_appends_is_single(p) || !(pg_appends_is_class(f, "22") || pg_appends_is_class(f, "23") ||
                                     pg_appends_is_class(f, "54"))) {
        return false;
    }
    while (!list_empty(&p->batch)) {
        struct append *a = container_of(p->batch.prev, struct append, node);
        a->alone = true;
        append_queue_put_back(&p->queue, a);
    }
    pg_appends_batch_finish(s);
    return true;
}

static void pg_appends_on_refused(struct store_pg *s, const struct pg_fault *f)
{
    bool divided = pg_appends_divide(s, f);
    if (!divided && pg_appends_retry(s, f)) {
        return;
    }
    if (!divided && pg_appends_is_single(&s->appends) && strcmp(f->sqlstate, PG_TOPICS_FULL) == 0) {
        pg_appends_batch_fail(s, s->appends.doubt ? UV_ECONNABORTED : STORE_TOPICS_FULL);
    } else if (!divided && !pg_appends_separate(s, f)) {
        s->metrics->store_errors++;
        store_pg_fault(s, STORE_PG_FAULT_APPEND, UV_EIO, f->text);
        pg_appends_batch_fail(s, s->appends.doubt ? UV_ECONNABORTED : UV_EIO);
    }
    pg_appends_start_next(s);
    store_pg_settle(s);
}

/* The answer nobody waits for any more. What was stored comes through the tail. */
static void pg_appends_on_late_answer(struct store_pg *s, const PGresult *res,
                                      const struct pg_fault *f)
{
    pg_appends_batch_finish(s);
    if (res || f->code == UV_EIO) {
        store_pg_well(s, STORE_PG_FAULT_APPEND); /* it answers */
        pg_tail_hint(s);
        pg_appends_start_next(s);
    }
    store_pg_settle(s);
}

/* Ids of new events are handed out above all leaps: on the server that orders. */
static bool pg_appends_is_lost(const struct store_pg *s, const PGresult *res)
{
    for (int i = 0; i < PQntuples(res); i++) {
        if (!pg_cell_bool(res, i, 1) && store_pg_is_lost(s, (uint64_t)pg_cell_int8(res, i, 0))) {
            return true;
        }
    }
    return false;
}

/* The connection broke, or leads astray. `sent`: the batch may be stored; the next one will tell. */
static void pg_appends_await_next_connection(struct store_pg *s, bool sent)
{
    struct pg_appends *p = &s->appends;
    p->doubt = p->doubt || sent;
    if (!p->doubt || s->parts_closing || pg_appends_time_left(s) == 0) {
        pg_appends_batch_fail(s, p->doubt ? UV_ECONNABORTED : UV_ENOTCONN);
        return;
    }
    p->state = PG_BATCH_DOUBT;
    REQUIRE(uv_timer_start(&p->timer, pg_appends_on_retry, pg_appends_time_left(s), 0) == 0);
}

static void pg_appends_on_answer(void *ctx, uint64_t token, const PGresult *res,
                                 const struct pg_fault *f)
{
    struct store_pg *s = ctx;
    struct pg_appends *p = &s->appends;
    (void)token;
    if (p->state == PG_BATCH_LATE) {
        pg_appends_on_late_answer(s, res, f);
        return;
    }
    if (p->state != PG_BATCH_SENT) {
        return; /* given up meanwhile */
    }
    if (res && pg_appends_is_lost(s, res)) { /* stored by a server, or in a state, that is gone */
        pg_client_drop(p->client, "it has given ids that were lost");
        pg_appends_await_next_connection(s, true);
        return;
    }
    if (res && (pg_appends_is_dense(res) || (size_t)PQntuples(res) == p->batch_events)) {
        store_pg_well(s, STORE_PG_FAULT_APPEND);
        pg_appends_take_acks(s, res);
        pg_appends_start_next(s);
        return;
    }
    if (f && f->code == UV_EIO) {
        pg_appends_on_refused(s, f);
        return;
    }
    pg_appends_await_next_connection(s, !f || f->code == UV_ECONNRESET || f->code == UV_ECANCELED);
}

/* ---------------------------------------------------------------- sending */

static struct slice pg_appends_stored_type(const struct event *ev)
{
    struct slice type = event_type(ev);
    return slice_is(type, "message") ? (struct slice){0} : type;
}

static void pg_appends_put_column(struct pg_args *args, const struct list *batch, size_t n,
                                  struct slice (*field)(const struct event *ev))
{
    pg_args_array_begin(args, PG_OID_TEXT, n);
    list_for_each (it, batch) {
        const struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n; i++) {
            pg_args_array_text(args, field(a->events.v[i]));
        }
    }
    pg_args_array_end(args);
}

static void pg_appends_put_times(struct pg_args *args, const struct list *batch, size_t n)
{
    pg_args_array_begin(args, PG_OID_INT8, n);
    list_for_each (it, batch) {
        const struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n; i++) {
            pg_args_array_int8(args, a->events.v[i]->time_ms);
        }
    }
    pg_args_array_end(args);
}

/* When they expire, NULL for those that do not; NULL alone where none does. */
static void pg_appends_put_expiries(struct pg_args *args, const struct list *batch, size_t n)
{
    bool any = false;
    list_for_each (it, batch) {
        const struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n && !any; i++) {
            any = a->events.v[i]->expires_ms != 0;
        }
    }
    if (!any) {
        pg_args_text(args, (struct slice){NULL, 0});
        return;
    }
    pg_args_array_begin(args, PG_OID_INT8, n);
    list_for_each (it, batch) {
        const struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n; i++) {
            int64_t ms = a->events.v[i]->expires_ms;
            if (ms) {
                pg_args_array_int8(args, ms);
            } else {
                pg_args_array_text(args, (struct slice){NULL, 0});
            }
        }
    }
    pg_args_array_end(args);
}

static bool pg_appends_has_keys(const struct list *batch)
{
    list_for_each (it, batch) {
        const struct append *a = container_of(it, struct append, node);
        for (size_t i = 0; i < a->events.n; i++) {
            if (event_key(a->events.v[i]).n) {
                return true;
            }
        }
    }
    return false;
}

static void pg_appends_batch_send(struct store_pg *s)
{
    struct pg_appends *p = &s->appends;
    struct pg_args args;
    size_t bytes = 0, n = p->batch_events;
    list_for_each (it, &p->batch) {
        bytes += container_of(it, struct append, node)->bytes;
    }
    pg_args_init(&args, bytes + n * EVENT_SLACK + BATCH_SLACK);
    pg_args_bytes(&args, p->writer, sizeof p->writer);
    pg_args_int8(&args, p->batch_no);
    pg_args_int8(&args, (int64_t)s->opt.partition_ids);
    pg_args_int8(&args, (int64_t)s->tail.last);
    pg_args_bool(&args, s->opt.key_window_s > 0 && pg_appends_has_keys(&p->batch));
    pg_appends_put_column(&args, &p->batch, n, event_topic);
    pg_appends_put_column(&args, &p->batch, n, pg_appends_stored_type);
    pg_appends_put_column(&args, &p->batch, n, event_data);
    pg_appends_put_column(&args, &p->batch, n, event_attrs);
    pg_appends_put_column(&args, &p->batch, n, event_key);
    pg_appends_put_times(&args, &p->batch, n);
    pg_appends_put_expiries(&args, &p->batch, n);
    p->state = PG_BATCH_SENT;
    pg_appends_await_answer(s, pg_appends_time_left(s));
    int rc = pg_client_ask(p->client, &append_statement, &args, pg_appends_on_answer, s, 0);
    if (rc) {
        struct pg_fault f = {.code = rc == UV_ENOTCONN ? rc : UV_EIO, .text = uv_strerror(rc)};
        pg_appends_on_answer(s, 0, NULL, &f);
    }
}

static void pg_appends_batch_begin(struct store_pg *s)
{
    struct pg_appends *p = &s->appends;
    p->batch_no++;
    p->since = uv_now(s->loop);
    p->excused = false;
    pg_appends_batch_send(s);
}

/* Is what was wrong over? A batch of nothing goes all the way, to the commit. */
static void pg_appends_on_probe(uv_timer_t *t)
{
    struct store_pg *s = t->data;
    if (s->appends.ids_reserved) { /* else the next connection tells */
        pg_appends_batch_begin(s);
    }
}

static void pg_appends_start_next(struct store_pg *s)
{
    struct pg_appends *p = &s->appends;
    struct append *a;
    size_t bytes = 0;
    if (p->state != PG_BATCH_NONE || !p->ids_reserved) {
        return;
    }
    if (!append_queue_first(&p->queue)) {
        if (s->faults[STORE_PG_FAULT_APPEND].code && !s->closing) {
            REQUIRE(uv_timer_start(&p->timer, pg_appends_on_probe, PROBE_MS, 0) == 0);
        }
        return;
    }
    while ((a = append_queue_first(&p->queue))) {
        if (p->batch_events && (a->alone || p->batch_events + a->events.n > p->max_events ||
                                bytes + a->bytes > p->max_bytes)) {
            break;
        }
        append_queue_take(&p->queue, &p->batch);
        p->batch_events += a->events.n;
        bytes += a->bytes;
        if (a->alone) {
            break;
        }
    }
    pg_appends_batch_begin(s);
}

/* ---------------------------------------------------------------- accepting */

/* Never from inside append(): a refusal by libpq would call back before the call returns. */
static void pg_appends_on_start(uv_timer_t *t)
{
    pg_appends_start_next(t->data);
}

int pg_appends_push(struct store_pg *s, struct event_list *events, store_append_cb cb, void *ctx,
                    uint64_t token)
{
    struct pg_appends *p = &s->appends;
    if ((!p->ids_reserved && !p->starting) || p->state == PG_BATCH_LATE) {
        return UV_ENOTCONN;
    }
    int rc = append_queue_push(&p->queue, events, cb, ctx, token);
    if (rc == 0 && p->starting) {
        if (!uv_is_active((const uv_handle_t *)&p->timer)) { /* the first who waits sets the end */
            pg_appends_await_answer(s, s->opt.append_timeout_ms);
        }
    } else if (rc == 0 && p->state == PG_BATCH_NONE) {
        REQUIRE(uv_timer_start(&p->timer, pg_appends_on_start, 0, 0) == 0);
    }
    return rc;
}

bool pg_appends_idle(const struct store_pg *s)
{
    return s->appends.queue.events == 0;
}

bool pg_appends_is_sent(const struct store_pg *s)
{
    return s->appends.state == PG_BATCH_SENT || s->appends.state == PG_BATCH_LATE;
}

static void pg_appends_abandon(struct store_pg *s, int code)
{
    pg_appends_fail_waiting(s, code);
    if (s->appends.state != PG_BATCH_NONE) {
        pg_appends_batch_fail(s, UV_ECONNABORTED);
    }
    append_complete_all(&s->appends.queue, &s->appends.committed, UV_ECONNABORTED);
}

/* ---------------------------------------------------------------- connection */

static void pg_appends_on_lead(void *ctx, uint64_t token, const PGresult *res,
                               const struct pg_fault *f)
{
    struct store_pg *s = ctx;
    struct pg_appends *p = &s->appends;
    (void)token;
    if (!res) {
        if (!s->parts_closing) {
            store_pg_fault(s, STORE_PG_FAULT_APPEND, f->code, f->text);
            pg_client_drop(p->client, "tidegate.lead() failed");
        }
        return;
    }
    p->ids_reserved = true;
    p->starting = false;
    (void)uv_timer_stop(&p->timer);
    store_pg_well(s, STORE_PG_FAULT_APPEND);
    if (p->state == PG_BATCH_DOUBT || p->state == PG_BATCH_RETRY) {
        pg_appends_batch_send(s);
    } else {
        pg_appends_start_next(s);
    }
}

static void pg_appends_on_ready(void *ctx)
{
    struct store_pg *s = ctx;
    struct pg_args args;
    store_pg_connected(s);
    store_pg_lead_args(s, &args);
    int rc = pg_client_ask(s->appends.client, &lead_statement, &args, pg_appends_on_lead, s, 0);
    if (rc) {
        store_pg_fault(s, STORE_PG_FAULT_APPEND, rc, uv_strerror(rc));
    }
}

static void pg_appends_on_lost(void *ctx, const struct err *e)
{
    struct store_pg *s = ctx;
    s->appends.ids_reserved = s->appends.starting = false;
    if (s->appends.state == PG_BATCH_RETRY) { /* was undone; not for ever */
        s->appends.state = PG_BATCH_DOUBT;
        REQUIRE(uv_timer_start(&s->appends.timer, pg_appends_on_retry, pg_appends_time_left(s),
                               0) == 0);
    } else if (s->appends.state == PG_BATCH_NONE) {
        (void)uv_timer_stop(&s->appends.timer);
    }
    store_pg_fault(s, STORE_PG_FAULT_APPEND, e->code, e->text);
    store_pg_lost(s, e);
    pg_appends_fail_waiting(s, UV_ENOTCONN); /* never sent: their publishers may try elsewhere */
    store_pg_settle(s);
}

void pg_appends_start(struct store_pg *s)
{
    struct pg_appends *p = &s->appends;
    p->max_events = BATCH_EVENTS;
    p->max_bytes = BATCH_BYTES;
    const struct pg_client_events events = {.refuse = store_pg_refuse,
                                            .ready = pg_appends_on_ready,
                                            .lost = pg_appends_on_lost,
                                            .slow = pg_appends_on_slow};
    const struct pg_client_options opt = {.conninfo = &s->conninfo,
                                          .role = "append",
                                          .setup = PG_SETUP ";" PG_LINEAGE_SQL,
                                          .connect_timeout_ms = PG_CONNECT_MS,
                                          .slow_ms = s->opt.append_timeout_ms,
                                          .answer_timeout_ms = PG_ANSWER_MS};
    append_queue_init(&p->queue, s->opt.max_queue_events, s->opt.max_queue_bytes, s->metrics);
    list_init(&p->batch);
    list_init(&p->committed);
    p->starting = true;
    REQUIRE(getrandom(p->writer, sizeof p->writer, 0) == (ssize_t)sizeof p->writer);
    REQUIRE(uv_timer_init(s->loop, &p->timer) == 0);
    p->timer.data = s;
    p->client = pg_client_new(s->loop, &opt, &events, s);
    s->parts += 2;
}

void pg_appends_close(struct store_pg *s)
{
    pg_appends_abandon(s, UV_ECANCELED);
    uv_close((uv_handle_t *)&s->appends.timer, store_pg_timer_closed);
    pg_client_close(s->appends.client, store_pg_part_closed, s);
}
