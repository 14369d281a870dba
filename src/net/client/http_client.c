/* Requests: accepted, queued, on the wire, done, delivered. See http_client.h.
 *
 * Time limits are ours and not libcurl's, so that they hold for what waits, too: one timer for the
 * earliest of all. */
#include "net/client/http_client.h"

#include "net/client/http_client_state.h"

#include <stdlib.h>

static void on_patience(uv_timer_t *timer);

/* ---------------------------------------------------------------- states */

/* Out of the list of its state. */
static void leave(struct http_transfer *t)
{
    struct http_client *c = t->client;
    if (list_linked(&t->node)) {
        c->queued_count -= t->state == HTTP_TRANSFER_QUEUED;
        c->active_count -= t->state == HTTP_TRANSFER_ACTIVE;
        c->own_active -= t->state == HTTP_TRANSFER_ACTIVE && t->own;
        list_del(&t->node);
    }
    c->metrics->http_client_queued = c->queued_count;
    c->metrics->http_client_active = c->active_count;
}

static void set_state(struct http_transfer *t, enum http_transfer_state state)
{
    struct http_client *c = t->client;
    leave(t);
    t->state = state;
    switch (state) {
    case HTTP_TRANSFER_QUEUED:
        c->metrics->http_client_queued = ++c->queued_count;
        if (t->own) { /* leaves it with the next pump */
            list_add_head(&c->queued, &t->node);
        } else {
            list_add_tail(&c->queued, &t->node);
        }
        break;
    case HTTP_TRANSFER_ACTIVE:
        c->metrics->http_client_active = ++c->active_count;
        c->own_active += t->own;
        list_add_tail(&c->active, &t->node);
        break;
    case HTTP_TRANSFER_DONE:
        list_add_tail(&c->done, &t->node);
        loop_defer(c->loop, &c->deliver);
        break;
    }
}

/* Out of libcurl's hands. */
static void let_go(struct http_transfer *t)
{
    if (t->state == HTTP_TRANSFER_ACTIVE) {
        REQUIRE(curl_multi_remove_handle(t->client->multi, t->easy) == CURLM_OK);
    }
}

static void fail(struct http_transfer *t, int code, const char *why)
{
    let_go(t);
    (void)err_set(&t->e, code, "%s", why);
    set_state(t, HTTP_TRANSFER_DONE);
}

void http_client_transfer_done(struct http_transfer *t, CURLcode rc)
{
    http_transfer_result(t, rc);
    let_go(t);
    set_state(t, HTTP_TRANSFER_DONE);
}

static bool has_room(const struct http_client *c)
{
    return c->active_count - c->own_active < c->opt.max_active;
}

void http_client_pump(struct http_client *c)
{
    while (!list_empty(&c->queued)) {
        struct http_transfer *t = list_first(&c->queued, struct http_transfer, node);
        if (!t->own && !has_room(c)) {
            break;
        }
        CURLMcode rc = curl_multi_add_handle(c->multi, t->easy); /* begins with the next timer */
        if (rc) {
            fail(t, UV_ENOMEM, curl_multi_strerror(rc));
        } else {
            set_state(t, HTTP_TRANSFER_ACTIVE);
        }
    }
}

/* ---------------------------------------------------------------- time limits */

static void patience_set(struct http_client *c, uint64_t due)
{
    uint64_t now = loop_now(c->loop);
    if (c->patience_due == 0 || due < c->patience_due) {
        c->patience_due = due;
        REQUIRE(uv_timer_start(&c->patience, on_patience, due > now ? due - now : 0, 0) == 0);
    }
}

static void give_up_late(struct http_client *c, struct list *all, const char *why)
{
    uint64_t now = loop_now(c->loop);
    list_for_each_safe (it, tmp, all) {
        struct http_transfer *t = container_of(it, struct http_transfer, node);
        if (t->due_ms <= now) {
            fail(t, UV_ETIMEDOUT, why);
        } else {
            patience_set(c, t->due_ms);
        }
    }
}

static void on_patience(uv_timer_t *timer)
{
    struct http_client *c = timer->data;
    c->patience_due = 0;
    give_up_late(c, &c->active, "no answer in time");
    give_up_late(c, &c->queued, "no answer in time: waited for other requests to end");
    http_client_pump(c);
}

/* ---------------------------------------------------------------- the end of a request */

static void deliver_one(struct http_transfer *t)
{
    struct http_client_response res = {0};
    long status = 0;
    if (t->e.code == 0) {
        (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        res.status = (int)status;
        res.head = strbuf_slice(&t->head);
        res.body = t->body.data ? strbuf_slice(&t->body) : slice_of("", 0);
    } else {
        t->client->metrics->http_client_errors++;
    }
    slots_del(&t->client->ids, t->id); /* what follows may cancel it */
    t->cb(t->ctx, t->token, t->e.code ? NULL : &res, t->e.code ? &t->e : NULL);
    http_transfer_free(t);
}

void http_client_handle_closed(struct http_client *c)
{
    if (--c->handles == 0) {
        if (c->closed) {
            c->closed(c->closed_ctx);
        }
    }
}

void http_client_free(struct http_client *c)
{
    if (c) {
        REQUIRE(c->handles == 0);
        slots_clear(&c->ids);
        free(c);
    }
}

static void on_timer_closed(uv_handle_t *h)
{
    http_client_handle_closed(h->data);
}

/* Everything has been delivered: now the connections, then the timers. */
static void finish_close(struct http_client *c)
{
    http_curl_close(c);
    uv_close((uv_handle_t *)&c->curl_timer, on_timer_closed);
    uv_close((uv_handle_t *)&c->patience, on_timer_closed);
}

static void deliver(struct http_client *c)
{
    struct list due;
    list_init(&due);
    list_splice_tail(&due, &c->done);
    while (!list_empty(&due)) {
        struct http_transfer *t = list_first(&due, struct http_transfer, node);
        list_del(&t->node);
        deliver_one(t);
    }
}

static void on_deliver(struct task *task)
{
    deliver(container_of(task, struct http_client, deliver));
}

static void on_closing(uv_timer_t *timer)
{
    struct http_client *c = timer->data;
    task_cancel(&c->deliver);
    deliver(c); /* nothing can be accepted any more */
    finish_close(c);
}

void http_client_cancel(struct http_client *c, uint64_t id)
{
    struct http_transfer *t = slots_get(&c->ids, id);
    if (t) {
        let_go(t);
        leave(t);
        slots_del(&c->ids, id);
        http_transfer_free(t);
        http_client_pump(c);
    }
}

/* ---------------------------------------------------------------- for users */

int http_client_start(struct http_client *c, const struct http_client_request *rq,
                      http_client_cb cb, void *ctx, uint64_t token, uint64_t *id, struct err *e)
{
    struct http_transfer *t;
    if (c->closing) {
        return err_set(e, UV_ECANCELED, "the broker is stopping");
    }
    if (!rq->own && !has_room(c) && c->queued_count >= c->opt.max_queued) {
        c->metrics->http_client_shed++;
        return err_set(e, UV_EAGAIN, "too many requests are under way");
    }
    int rc = http_transfer_new(c, rq, &t, e);
    if (rc) {
        return rc;
    }
    t->cb = cb;
    t->ctx = ctx;
    t->token = token;
    t->id = slots_add(&c->ids, t);
    t->due_ms = loop_now(c->loop) + t->timeout_ms;
    if (id) {
        *id = t->id;
    }
    c->metrics->http_client_requests++;
    patience_set(c, t->due_ms);
    set_state(t, HTTP_TRANSFER_QUEUED);
    http_client_pump(c);
    return 0;
}

struct http_client *http_client_new(struct loop *loop, const struct http_client_options *opt,
                                    struct net_metrics *metrics, struct err *e)
{
    struct http_client *c = xcalloc(1, sizeof *c);
    REQUIRE(opt->max_active > 0);
    c->loop = loop;
    c->opt = *opt;
    c->metrics = metrics;
    list_init(&c->queued);
    list_init(&c->active);
    list_init(&c->done);
    slots_init(&c->ids);
    task_init(&c->deliver, on_deliver);
    if (http_curl_open(c, e)) {
        free(c);
        return NULL;
    }
    REQUIRE(uv_timer_init(loop_uv(loop), &c->curl_timer) == 0);
    REQUIRE(uv_timer_init(loop_uv(loop), &c->patience) == 0);
    c->curl_timer.data = c->patience.data = c;
    c->handles = 2;
    return c;
}

void http_client_close(struct http_client *c, void (*closed)(void *ctx), void *ctx)
{
    REQUIRE(!c->closing);
    c->closing = true;
    c->closed = closed;
    c->closed_ctx = ctx;
    while (!list_empty(&c->queued)) {
        fail(list_first(&c->queued, struct http_transfer, node), UV_ECANCELED, "closing");
    }
    while (!list_empty(&c->active)) {
        fail(list_first(&c->active, struct http_transfer, node), UV_ECANCELED, "closing");
    }
    /* a deferred task alone would not keep the loop running */
    REQUIRE(uv_timer_start(&c->patience, on_closing, 0, 0) == 0);
}
