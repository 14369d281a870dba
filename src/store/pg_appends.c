/* What the broker was asked to publish: everything that arrived while one batch is in flight is the
 * next batch. Each batch has a number that the server keeps with its result, so that a batch whose
 * answer was lost is sent again without being stored again. */
#include "base/logging.h"
#include "base/xalloc.h"
#include "store/pg_store.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
    BATCH_EVENTS = 1000,
    BATCH_BYTES = 8 << 20,
    BATCH_SLACK = 64 << 10, /* array headers */
    EVENT_SLACK = 64,
    RETRY_MS = 20,
    PATIENCE_MS = 10000, /* for locks, or for the server to come back */
};

static const struct pg_statement lead_statement = {"lead", "SELECT tidegate.lead($1::bigint)"};
static const struct pg_statement append_statement = {
    "append", "SELECT seq, dup FROM tidegate.append($1::uuid, $2::bigint, $3::bigint, $4::boolean,"
              " $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[])"};

static void send_batch(struct pg_store *s);
static void kick(struct pg_store *s);

/* ---------------------------------------------------------------- completing */

static void append_free(struct pg_append *a)
{
    list_del(&a->node);
    event_list_clear(&a->events);
    free(a->acks);
    free(a);
}

static void fail_one(struct pg_store *s, struct pg_append *a, int code)
{
    list_del(&a->node);
    s->appends.accepted_bytes -= a->bytes;
    a->cb(a->ctx, a->token, code, NULL, 0);
    append_free(a);
}

static void fail_list(struct pg_store *s, struct list *list, int code)
{
    struct list failed;
    list_init(&failed);
    list_splice_tail(&failed, list);
    while (!list_empty(&failed)) {
        fail_one(s, list_first(&failed, struct pg_append, node), code);
    }
}

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
    fail_list(s, &s->appends.flying, code);
}

static void fail_waiting(struct pg_store *s, int code)
{
    s->appends.waiting_events = 0;
    s->metrics->append_queue = 0;
    fail_list(s, &s->appends.queue, code);
}

void pg_appends_acknowledge(struct pg_store *s)
{
    struct list *done = &s->appends.committed;
    while (!list_empty(done)) {
        struct pg_append *a = list_first(done, struct pg_append, node);
        if (a->need > s->tail.last) {
            break;
        }
        list_del(&a->node);
        s->appends.accepted_bytes -= a->bytes;
        latency_add(&s->metrics->store_append, (uv_hrtime() - a->accepted_ns) / 1000);
        a->cb(a->ctx, a->token, 0, a->acks, a->events.n);
        append_free(a);
    }
    pg_store_settle(s);
}

void pg_appends_lost(struct pg_store *s, const struct store_leap *leap)
{
    list_for_each_safe (it, next, &s->appends.committed) {
        struct pg_append *a = container_of(it, struct pg_append, node);
        if (a->need > leap->after && a->need <= leap->upto) {
            fail_one(s, a, UV_ECONNABORTED);
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

static void take_acks(struct pg_store *s, const PGresult *res)
{
    struct event_list fresh = {0};
    int row = 0;
    list_for_each (it, &s->appends.flying) {
        struct pg_append *a = container_of(it, struct pg_append, node);
        for (size_t i = 0; i < a->events.n; i++, row++) {
            struct store_ack *ack = &a->acks[i];
            ack->id = (uint64_t)pg_cell_int8(res, row, 0);
            ack->duplicate = pg_cell_bool(res, row, 1);
            a->need = ack->id > a->need ? ack->id : a->need;
            if (!ack->duplicate) {
                a->events.v[i]->id = ack->id;
                event_list_push(&fresh, event_ref(a->events.v[i]));
            }
        }
    }
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

static void on_retry(uv_timer_t *t)
{
    struct pg_store *s = t->data;
    if (s->appends.flight == PG_FLIGHT_DOUBT) {
        fail_flying(s, UV_ECONNABORTED);
        pg_store_settle(s);
    } else if (s->appends.flight == PG_FLIGHT_RETRY && s->appends.led) {
        send_batch(s);
    }
}

/* The server undid the batch. Once more, if that may help: somebody held a lock for too long. */
static bool retry(struct pg_store *s, const struct pg_fault *f)
{
    struct pg_appends *p = &s->appends;
    bool lock = is_class(f, "55P03") || is_class(f, "40") || is_class(f, "57014");
    if (!lock || uv_now(s->loop) - p->since > PATIENCE_MS) {
        return false;
    }
    p->flight = PG_FLIGHT_RETRY;
    REQUIRE(uv_timer_start(&p->timer, on_retry, RETRY_MS, 0) == 0);
    return true;
}

/* Something in the batch is refused: each append on its own, so that only the bad one fails. */
static bool separate(struct pg_store *s, const struct pg_fault *f)
{
    struct pg_appends *p = &s->appends;
    if (p->flying.next->next == &p->flying ||
        !(is_class(f, "22") || is_class(f, "23") || is_class(f, "54"))) {
        return false;
    }
    list_for_each (it, &p->flying) {
        container_of(it, struct pg_append, node)->alone = true;
    }
    list_splice_tail(&p->flying, &p->queue);
    list_splice_tail(&p->queue, &p->flying);
    p->waiting_events += p->flying_events;
    land(s);
    return true;
}

static void refused(struct pg_store *s, const struct pg_fault *f)
{
    if (retry(s, f)) {
        return;
    }
    if (!separate(s, f)) {
        s->metrics->store_errors++;
        pg_store_trouble(s, PG_TROUBLE_APPEND, UV_EIO, f->text);
        fail_flying(s, s->appends.doubt ? UV_ECONNABORTED : UV_EIO);
    }
    kick(s);
    pg_store_settle(s);
}

static void on_appended(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    struct pg_store *s = ctx;
    struct pg_appends *p = &s->appends;
    (void)token;
    if (p->flight != PG_FLIGHT_SENT) {
        return; /* given up meanwhile */
    }
    if (res && (size_t)PQntuples(res) == p->flying_events) {
        pg_store_well(s, PG_TROUBLE_APPEND);
        take_acks(s, res);
        kick(s);
        return;
    }
    if (f && f->code == UV_EIO) {
        refused(s, f);
        return;
    }
    /* The connection broke: what was sent may be stored. The next connection will tell. */
    p->doubt = p->doubt || !f || f->code == UV_ECONNRESET || f->code == UV_ECANCELED;
    if (!p->doubt || s->parts_closing) {
        fail_flying(s, p->doubt ? UV_ECONNABORTED : UV_ENOTCONN);
        return;
    }
    p->flight = PG_FLIGHT_DOUBT;
    REQUIRE(uv_timer_start(&p->timer, on_retry, PATIENCE_MS, 0) == 0);
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
        const struct pg_append *a = container_of(it, struct pg_append, node);
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
        const struct pg_append *a = container_of(it, struct pg_append, node);
        for (size_t i = 0; i < a->events.n; i++) {
            pg_args_array_int8(args, a->events.v[i]->time_ms);
        }
    }
    pg_args_array_end(args);
}

static void send_batch(struct pg_store *s)
{
    struct pg_appends *p = &s->appends;
    struct pg_args args;
    size_t bytes = 0, n = p->flying_events;
    list_for_each (it, &p->flying) {
        bytes += container_of(it, struct pg_append, node)->bytes;
    }
    pg_args_init(&args, bytes + n * EVENT_SLACK + BATCH_SLACK);
    pg_args_bytes(&args, p->writer, sizeof p->writer);
    pg_args_int8(&args, p->batch);
    pg_args_int8(&args, (int64_t)s->opt.partition_ids);
    pg_args_bool(&args, s->opt.key_window_s > 0);
    put_column(&args, &p->flying, n, event_topic);
    put_column(&args, &p->flying, n, stored_type);
    put_column(&args, &p->flying, n, event_data);
    put_column(&args, &p->flying, n, event_attrs);
    put_column(&args, &p->flying, n, event_key);
    put_times(&args, &p->flying, n);
    p->flight = PG_FLIGHT_SENT;
    int rc = pg_client_ask(p->client, &append_statement, &args, on_appended, s, 0);
    if (rc) {
        struct pg_fault f = {.code = rc == UV_ENOTCONN ? rc : UV_EIO, .text = uv_strerror(rc)};
        on_appended(s, 0, NULL, &f);
    }
}

static void kick(struct pg_store *s)
{
    struct pg_appends *p = &s->appends;
    size_t bytes = 0;
    if (p->flight != PG_FLIGHT_NONE || !p->led || list_empty(&p->queue)) {
        return;
    }
    while (!list_empty(&p->queue)) {
        struct pg_append *a = list_first(&p->queue, struct pg_append, node);
        if (p->flying_events && (a->alone || p->flying_events + a->events.n > BATCH_EVENTS ||
                                 bytes + a->bytes > BATCH_BYTES)) {
            break;
        }
        list_del(&a->node);
        list_add_tail(&p->flying, &a->node);
        p->flying_events += a->events.n;
        p->waiting_events -= a->events.n;
        bytes += a->bytes;
        if (a->alone) {
            break;
        }
    }
    s->metrics->append_queue = p->waiting_events;
    p->batch++;
    p->since = uv_now(s->loop);
    send_batch(s);
}

/* ---------------------------------------------------------------- accepting */

static bool queue_full(const struct pg_store *s, size_t events, size_t bytes)
{
    const struct pg_appends *p = &s->appends;
    size_t held = p->waiting_events + p->flying_events;
    if (p->accepted_bytes == 0) {
        return false; /* else a batch larger than the bound could never be stored */
    }
    return (s->opt.max_queue_events && held + events > s->opt.max_queue_events) ||
           (s->opt.max_queue_bytes && p->accepted_bytes + bytes > s->opt.max_queue_bytes);
}

/* Never from inside append(): a refusal by libpq would call back before the call returns. */
static void on_kick(uv_timer_t *t)
{
    kick(t->data);
}

int pg_appends_push(struct pg_store *s, struct event_list *events, store_append_cb cb, void *ctx,
                    uint64_t token)
{
    struct pg_appends *p = &s->appends;
    size_t bytes = 0;
    if (events->n == 0) {
        return UV_EINVAL;
    }
    if (!p->led && !p->starting) {
        return UV_ENOTCONN;
    }
    for (size_t i = 0; i < events->n; i++) {
        bytes += event_cost(events->v[i]);
    }
    if (queue_full(s, events->n, bytes)) {
        return UV_EAGAIN;
    }
    struct store_ack *acks = calloc(events->n, sizeof *acks);
    if (!acks) {
        return UV_ENOMEM;
    }
    struct pg_append *a = xmalloc(sizeof *a);
    *a = (struct pg_append){.events = *events,
                            .acks = acks,
                            .bytes = bytes,
                            .accepted_ns = uv_hrtime(),
                            .cb = cb,
                            .ctx = ctx,
                            .token = token};
    *events = (struct event_list){0};
    list_add_tail(&p->queue, &a->node);
    p->waiting_events += a->events.n;
    p->accepted_bytes += bytes;
    s->metrics->append_queue = p->waiting_events;
    if (p->flight == PG_FLIGHT_NONE) {
        REQUIRE(uv_timer_start(&p->timer, on_kick, 0, 0) == 0);
    }
    return 0;
}

bool pg_appends_idle(const struct pg_store *s)
{
    return list_empty(&s->appends.queue) && list_empty(&s->appends.flying) &&
           list_empty(&s->appends.committed);
}

void pg_appends_abandon(struct pg_store *s, int code)
{
    fail_waiting(s, code);
    if (s->appends.flight != PG_FLIGHT_NONE) {
        fail_flying(s, UV_ECONNABORTED);
    }
    fail_list(s, &s->appends.committed, UV_ECONNABORTED);
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
    pg_store_well(s, PG_TROUBLE_APPEND);
    if (p->flight == PG_FLIGHT_DOUBT || p->flight == PG_FLIGHT_RETRY) {
        (void)uv_timer_stop(&p->timer);
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
    pg_args_init(&args, 16);
    pg_args_int8(&args, (int64_t)s->opt.partition_ids);
    int rc = pg_client_ask(s->appends.client, &lead_statement, &args, on_led, s, 0);
    if (rc) {
        pg_store_trouble(s, PG_TROUBLE_APPEND, rc, uv_strerror(rc));
    }
}

static void on_lost(void *ctx, const struct err *e)
{
    struct pg_store *s = ctx;
    s->appends.led = s->appends.starting = false;
    s->metrics->store_reconnects++;
    pg_store_trouble(s, PG_TROUBLE_APPEND, e->code, e->text);
    fail_waiting(s, UV_ENOTCONN); /* never sent: their publishers may try elsewhere */
    pg_store_settle(s);
}

void pg_appends_start(struct pg_store *s)
{
    struct pg_appends *p = &s->appends;
    const struct pg_client_events events = {.ready = on_ready, .lost = on_lost};
    const struct pg_client_options opt = {.conninfo = &s->conninfo,
                                          .role = "append",
                                          .setup = PG_SETUP,
                                          .connect_timeout_ms = PG_CONNECT_MS,
                                          .answer_timeout_ms = PG_ANSWER_MS};
    list_init(&p->queue);
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
