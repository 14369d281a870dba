/* Requests: accepted, queued, on the wire, done, delivered. See http_client.h.
 *
 * Time limits are those of the pool of jobs and not libcurl's, so that they hold for what waits, too. */
#include "net/client/http_client.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/require.h"
#include "net/client/http_client_state.h"

#include <stdlib.h>

static struct http_client *http_client_of(struct job_pool *p)
{
    return container_of(p, struct http_client, jobs);
}

static struct http_transfer *http_client_transfer_of(struct job *j)
{
    return container_of(j, struct http_transfer, job);
}

static bool http_client_begin(struct job_pool *p, struct job *j)
{
    struct http_transfer *t = http_client_transfer_of(j);
    CURLMcode rc =
        curl_multi_add_handle(http_client_of(p)->multi, t->easy); /* with the next timer */
    if (rc) {
        (void)err_set(&t->e, UV_ENOMEM, "%s", curl_multi_strerror(rc));
        job_pool_done(j);
    }
    return true;
}

/* Out of libcurl's hands. */
static void http_client_let_go(struct http_transfer *t)
{
    if (t->job.state == JOB_ACTIVE) {
        REQUIRE(curl_multi_remove_handle(t->client->multi, t->easy) == CURLM_OK);
    }
}

static void http_client_give_up(struct job_pool *p, struct job *j, int code)
{
    struct http_transfer *t = http_client_transfer_of(j);
    (void)p;
    (void)err_set(&t->e, code, "%s",
                  code == UV_ECANCELED     ? "closing"
                  : j->state == JOB_ACTIVE ? "no answer in time"
                                           : "no answer in time: waited for other requests to end");
    http_client_let_go(t);
    job_pool_done(j);
}

void http_client_transfer_done(struct http_transfer *t, CURLcode rc)
{
    http_transfer_result(t, rc);
    http_client_let_go(t);
    job_pool_done(&t->job);
}

static void http_client_deliver(struct job_pool *p, struct job *j)
{
    struct http_transfer *t = http_client_transfer_of(j);
    struct http_client_response res = {0};
    long status = 0;
    if (t->e.code == 0) {
        (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        res.status = (int)status;
        res.head = strbuf_slice(&t->head);
        res.body = t->body.data ? strbuf_slice(&t->body) : slice_of("", 0);
    } else {
        http_client_of(p)->metrics->http_client_errors++;
    }
    job_pool_forget(j); /* what follows may cancel it */
    t->cb(t->ctx, t->token, t->e.code ? NULL : &res, t->e.code ? &t->e : NULL);
    http_transfer_free(t);
}

/* ---------------------------------------------------------------- the end */

void http_client_handle_closed(struct http_client *c)
{
    if (--c->handles == 0) {
        job_pool_closed(&c->jobs);
    }
}

static void http_client_on_timer_closed(uv_handle_t *h)
{
    http_client_handle_closed(h->data);
}

/* Everything has been delivered: now the connections, then the timer. */
static void http_client_finish(struct job_pool *p)
{
    struct http_client *c = http_client_of(p);
    http_curl_close(c);
    uv_close((uv_handle_t *)&c->curl_timer, http_client_on_timer_closed);
}

void http_client_close(struct http_client *c, void (*closed)(void *ctx), void *ctx)
{
    job_pool_close(&c->jobs, closed, ctx);
}

void http_client_free(struct http_client *c)
{
    if (c) {
        job_pool_clear(&c->jobs);
        free(c);
    }
}

/* ---------------------------------------------------------------- for users */

int http_client_start(struct http_client *c, const struct http_client_request *rq,
                      http_client_cb cb, void *ctx, uint64_t token, uint64_t *id, struct err *e)
{
    struct http_transfer *t;
    if (c->jobs.closing) {
        return err_set(e, UV_ECANCELED, "the broker is stopping");
    }
    if (!rq->own && !job_pool_has_room(&c->jobs) && c->jobs.queued_count >= c->opt.max_queued) {
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
    c->metrics->http_client_requests++;
    job_pool_add(&c->jobs, &t->job, rq->own, rq->timeout_ms);
    if (id) {
        *id = t->job.id;
    }
    return 0;
}

void http_client_cancel(struct http_client *c, uint64_t id)
{
    struct job *j = slots_get(&c->jobs.ids, id);
    if (j) {
        http_client_let_go(http_client_transfer_of(j));
        job_pool_remove(j);
        http_transfer_free(http_client_transfer_of(j));
        job_pool_pump(&c->jobs);
    }
}

struct http_client *http_client_new(struct loop *loop, const struct http_client_options *opt,
                                    struct net_metrics *metrics, struct err *e)
{
    static const struct job_pool_ops ops = {.start = http_client_begin,
                                            .give_up = http_client_give_up,
                                            .deliver = http_client_deliver,
                                            .close = http_client_finish};
    struct http_client *c = xcalloc(1, sizeof *c);
    REQUIRE(opt->max_active > 0);
    c->loop = loop;
    c->opt = *opt;
    c->metrics = metrics;
    if (http_curl_open(c, e)) {
        free(c);
        return NULL;
    }
    job_pool_init(&c->jobs, &ops,
                  &(struct job_pool_options){.max_active = opt->max_active,
                                             .queued_n = &metrics->http_client_queued,
                                             .active_n = &metrics->http_client_active},
                  loop);
    REQUIRE(uv_timer_init(loop_uv(loop), &c->curl_timer) == 0);
    c->curl_timer.data = c;
    c->handles = 1;
    return c;
}
