/* See tls_pool.h. Runs on libuv's threads, and leaves some of them to the readers of the store. */
#include "net/tls/tls_pool.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/require.h"

#include <stdlib.h>

enum {
    THREADS = 2,          /* of libuv's four */
    TRIM_JOBS = 4,        /* about one for each of them */
    TRIM_HANDSHAKES = 64, /* so many are worth it */
    TRIM_MS = 500,
    INPUT_MAX_BYTES = 128 * 1024, /* a chain of certificates of a client */
    OUTPUT_MAX_BYTES = 256 * 1024,
    JOB_TIMEOUT_MS = 60 * 1000, /* the connection's own limit comes first */
};

struct tls_pool {
    struct job_pool jobs;
    BIO_METHOD *method;
    struct tls_suites *suites;
    void (*stepped)(struct tls_handshake *h, void *owner);
    unsigned working;
    unsigned since_trim; /* handshakes that were done */
    struct deadline trim;
    uv_work_t trims[TRIM_JOBS];
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
static void tls_pool_on_work(uv_work_t *w)
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
        job_pool_closed(&p->jobs);
    }
}

static void tls_pool_on_worked(uv_work_t *w, int status)
{
    struct tls_handshake *h = container_of(w, struct tls_handshake, work);
    struct tls_pool *p = h->pool;
    p->working--;
    if (status) {
        h->result = status;
    }
    job_pool_done(&h->job);
    job_pool_pump(&p->jobs);
    tls_pool_finish_close(p);
}

/* ---------------------------------------------------------------- memory */

/* A thousand clients that come at once leave some 10 MB of free memory with these threads, which do not allocate again
 * until more clients come: nobody else would give it back. */
static void tls_pool_on_trim(uv_work_t *w)
{
    (void)w;
    alloc_trim();
}

static void tls_pool_on_trimmed(uv_work_t *w, int status)
{
    struct tls_pool *p = w->data;
    (void)status;
    p->working--;
    tls_pool_finish_close(p);
}

/* Once the threads have nothing to do. */
static void tls_pool_on_quiet(struct deadline *d)
{
    struct tls_pool *p = container_of(d, struct tls_pool, trim);
    if (p->working) {
        deadline_arm(loop_deadline_class(p->jobs.loop, TRIM_MS, tls_pool_on_quiet), d);
        return;
    }
    p->since_trim = 0;
    for (size_t i = 0; i < TRIM_JOBS; i++) {
        p->working++;
        p->trims[i].data = p;
        REQUIRE(uv_queue_work(loop_uv(p->jobs.loop), &p->trims[i], tls_pool_on_trim,
                              tls_pool_on_trimmed) == 0);
    }
}

static void tls_pool_note_done(struct tls_pool *p)
{
    if (++p->since_trim == TRIM_HANDSHAKES && !p->jobs.closing) {
        deadline_arm(loop_deadline_class(p->jobs.loop, TRIM_MS, tls_pool_on_quiet), &p->trim);
    }
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
    p->working++;
    REQUIRE(uv_queue_work(loop_uv(jobs->loop), &h->work, tls_pool_on_work, tls_pool_on_worked) ==
            0);
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
    if (h->result == 1) {
        tls_pool_note_done(p);
    }
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
        .max_active = THREADS, .queued_n = queued, .active_n = active};
    p->stepped = stepped;
    p->method = tls_conn_bio_method();
    p->suites = tls_suites_new();
    REQUIRE(p->method != NULL && p->suites != NULL);
    job_pool_init(&p->jobs, &ops, &opt, loop);
    deadline_init(&p->trim);
    return p;
}

void tls_pool_close(struct tls_pool *p)
{
    if (p && !p->jobs.closing) {
        deadline_disarm(&p->trim);
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
    job_pool_add(&h->pool->jobs, &h->job, false, JOB_TIMEOUT_MS);
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
