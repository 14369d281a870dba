/* See tls_pool.h. */
#include "net/tls/tls_pool.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/require.h"

#include <stdlib.h>

enum {
    POSTED = 16, /* of those that begin: the threads have work until the loop comes round again */
    INPUT_MAX_BYTES = 128 * 1024, /* a chain of certificates of a client */
    OUTPUT_MAX_BYTES = 256 * 1024,
    JOB_TIMEOUT_MS = 60 * 1000, /* the connection's own limit comes first */
};

struct tls_pool {
    struct job_pool jobs;
    BIO_METHOD *method;
    struct tls_suites *suites;
    void (*stepped)(struct tls_handshake *h, void *owner);
    struct tls_threads *threads;
    unsigned working;
    bool closing;
};

static void tls_handshake_release(struct tls_handshake *h)
{
    tls_conn_free(h->tls);
    tls_context_unref(h->context);
    strbuf_clear(&h->in);
    strbuf_clear(&h->out);
    free(h);
}

/* ---------------------------------------------------------------- on a thread */

/* What OpenSSL allocates comes and goes on these threads alone: the allocator keeps it apart from what the loop's
 * thread allocates for longer, and who only connects costs nothing of it. */
static void tls_pool_on_work(struct tls_work *w)
{
    struct tls_handshake *h = container_of(w, struct tls_handshake, work);
    const struct tls_pool *p = h->pool;
    h->rest = strbuf_slice(&h->in);
    if (!h->tls) {
        h->tls = tls_conn_new(h->context, p->method, p->suites);
    }
    if (!h->tls) {
        h->result = UV_ENOMEM;
        return;
    }
    h->result = tls_conn_handshake(h->tls, &h->rest, &h->out, &h->failure);
}

/* ---------------------------------------------------------------- on the loop */

static void tls_pool_finish_close(struct tls_pool *p)
{
    if (p->closing && p->working == 0) {
        tls_threads_close(p->threads);
        p->threads = NULL;
        job_pool_closed(&p->jobs);
    }
}

static void tls_pool_on_worked(struct tls_work *w)
{
    struct tls_handshake *h = container_of(w, struct tls_handshake, work);
    struct tls_pool *p = h->pool;
    p->working--;
    job_pool_done(&h->job);
    job_pool_pump(&p->jobs);
    tls_pool_finish_close(p);
}

/* ---------------------------------------------------------------- jobs */

static bool tls_pool_start(struct job_pool *jobs, struct job *j)
{
    struct tls_pool *p = container_of(jobs, struct tls_pool, jobs);
    struct tls_handshake *h = container_of(j, struct tls_handshake, job);
    if (!h->owner) { /* its connection has ended while it waited */
        h->result = UV_ECANCELED;
        job_pool_done(j);
        return true;
    }
    int rc = tls_threads_post(p->threads, &h->work);
    if (rc) {
        h->result = rc;
        job_pool_done(j);
    } else {
        p->working++;
    }
    return true;
}

static void tls_pool_give_up(struct job_pool *jobs, struct job *j, int code)
{
    struct tls_handshake *h = container_of(j, struct tls_handshake, job);
    (void)jobs;
    if (j->state == JOB_ACTIVE) {
        job_pool_forget(j); /* it cannot be stopped, and does not take long */
    } else {
        h->result = code;
        job_pool_done(j);
    }
}

static void tls_pool_deliver(struct job_pool *jobs, struct job *j)
{
    struct tls_pool *p = container_of(jobs, struct tls_pool, jobs);
    struct tls_handshake *h = container_of(j, struct tls_handshake, job);
    if (j->id) {
        job_pool_forget(j);
    }
    h->busy = false;
    if (!h->owner) {
        tls_handshake_release(h);
        return;
    }
    p->stepped(h, h->owner);
}

static void tls_pool_on_close(struct job_pool *jobs)
{
    struct tls_pool *p = container_of(jobs, struct tls_pool, jobs);
    p->closing = true;
    tls_pool_finish_close(p);
}

struct tls_pool *tls_pool_new(struct loop *loop, uint64_t *queued, uint64_t *active,
                              void (*stepped)(struct tls_handshake *h, void *owner))
{
    static const struct job_pool_ops ops = {.start = tls_pool_start,
                                            .give_up = tls_pool_give_up,
                                            .deliver = tls_pool_deliver,
                                            .close = tls_pool_on_close};
    struct tls_pool *p = xcalloc(1, sizeof *p);
    const struct job_pool_options opt = {
        .max_active = POSTED, .queued_n = queued, .active_n = active};
    p->stepped = stepped;
    p->method = tls_conn_bio_method();
    p->suites = tls_suites_new();
    REQUIRE(p->method != NULL && p->suites != NULL);
    job_pool_init(&p->jobs, &ops, &opt, loop);
    p->threads = tls_threads_new(loop_uv(loop), tls_pool_on_work, tls_pool_on_worked);
    return p;
}

void tls_pool_close(struct tls_pool *p)
{
    if (p && !p->jobs.closing) {
        job_pool_close(&p->jobs, NULL, NULL);
    }
}

void tls_pool_free(struct tls_pool *p)
{
    if (p) {
        job_pool_clear(&p->jobs);
        BIO_meth_free(p->method);
        tls_suites_free(p->suites);
        free(p);
    }
}

/* ---------------------------------------------------------------- one handshake */

struct tls_handshake *tls_handshake_new(struct tls_pool *p, struct tls_context *context,
                                        void *owner)
{
    struct tls_handshake *h = calloc(1, sizeof *h);
    if (!h) {
        return NULL;
    }
    h->pool = p;
    h->context = tls_context_ref(context);
    h->owner = owner;
    list_init(&h->job.node);
    list_init(&h->work.node);
    strbuf_init(&h->in, INPUT_MAX_BYTES);
    strbuf_init(&h->out, OUTPUT_MAX_BYTES);
    return h;
}

void tls_handshake_feed(struct tls_handshake *h, struct slice bytes)
{
    REQUIRE(!h->busy);
    strbuf_reset(&h->in); /* what was there has been used */
    strbuf_reset(&h->out);
    if (strbuf_append(&h->in, bytes.p, bytes.n)) {
        strbuf_clear(&h->in); /* no memory: as if nothing had come, until its time is over */
    }
    h->busy = true;
    /* who has begun comes first: each such handshake holds some 30 KB until it is done */
    job_pool_add(&h->pool->jobs, &h->job, h->tls != NULL, JOB_TIMEOUT_MS);
}

bool tls_handshake_busy(const struct tls_handshake *h)
{
    return h->busy;
}

void tls_handshake_free(struct tls_handshake *h)
{
    if (!h) {
        return;
    }
    h->owner = NULL;
    if (!h->busy) {
        tls_handshake_release(h);
    }
}
