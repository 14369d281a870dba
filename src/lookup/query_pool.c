/* See query_pool.h. Time limits are those of the asker: when one passes, the asker gets its answer
 * at once; a job that runs stays with its connection until the database lets go of it, which
 * backends bound on their side. */
#include "lookup/query_pool.h"

#include "base/hash.h"
#include "base/logging.h"
#include "lookup/query_sql.h"

#include <stdio.h>
#include <stdlib.h>

enum { QUERIES_MAX = 10000, ARGS_MAX_BYTES = 256 * 1024, ERROR_LOG_INTERVAL_MS = 10000 };

static void on_patience(uv_timer_t *timer);

static struct query_pool *of(struct query_source *s)
{
    return container_of(s, struct query_pool, base);
}

/* ---------------------------------------------------------------- declared queries */

/* PostgreSQL's parser runs once per connection and text; the key is not a secret, since nobody but
 * the operator chooses the texts. */
static const struct hash_key fixed = {UINT64_C(0x7469646567617465), UINT64_C(0x71756572696573)};

static int declare(struct query_source *s, struct slice name, struct slice sql,
                   const struct query **out, struct err *e)
{
    struct query_pool *p = of(s);
    for (size_t i = 0; i < p->query_count; i++) {
        if (slice_is(sql, p->queries[i]->sql) && slice_is(name, p->queries[i]->name)) {
            *out = p->queries[i];
            return 0;
        }
    }
    int parameters = query_sql_parameters(sql, e);
    if (parameters < 0) {
        return parameters;
    }
    if (p->query_count == QUERIES_MAX) {
        return err_set(e, UV_ENOSPC,
                       "%d different queries have been declared since the broker was started: "
                       "restart it",
                       (int)QUERIES_MAX);
    }
    struct query *q = xmalloc(sizeof *q);
    *q = (struct query){.name = xstrndup(name.p, name.n),
                        .sql = xstrndup(sql.p, sql.n),
                        .parameters = (unsigned)parameters};
    (void)snprintf(q->key, sizeof q->key, "tidegate_%016llx",
                   (unsigned long long)hash_bytes(&fixed, sql.p, sql.n));
    p->queries = xrealloc(p->queries, (p->query_count + 1) * sizeof *p->queries);
    p->queries[p->query_count++] = q;
    *out = q;
    return 0;
}

static unsigned parameters_of(const struct query *q)
{
    return q->parameters;
}

/* ---------------------------------------------------------------- states */

static void show_counts(struct query_pool *p)
{
    p->metrics->database_queued = p->queued_count;
    p->metrics->database_running = p->running_count;
}

static void leave(struct query_job *job)
{
    struct query_pool *p = job->pool;
    if (list_linked(&job->node)) {
        p->queued_count -= job->state == QUERY_QUEUED;
        p->running_count -= job->state == QUERY_RUNNING;
        list_del(&job->node);
    }
    show_counts(p);
}

static void enter(struct query_job *job, enum query_job_state state)
{
    struct query_pool *p = job->pool;
    leave(job);
    job->state = state;
    switch (state) {
    case QUERY_QUEUED:
        p->queued_count++;
        list_add_tail(&p->queued, &job->node);
        break;
    case QUERY_RUNNING:
        p->running_count++;
        list_add_tail(&p->running, &job->node);
        break;
    case QUERY_DONE:
        list_add_tail(&p->done, &job->node);
        loop_defer(p->loop, &p->deliver);
        break;
    }
    show_counts(p);
}

static void job_free(struct query_job *job)
{
    leave(job);
    slots_del(&job->pool->ids, job->id);
    query_rows_clear(&job->rows);
    strbuf_clear(&job->arg_text);
    free(job->args);
    free(job);
}

/* ---------------------------------------------------------------- answers */

/* A query that fails is the policy's mistake, or the schema's: said once in a while. */
static void log_failure(struct query_pool *p, const struct query_job *job)
{
    uint64_t now = loop_now(p->loop);
    if ((job->e.code == UV_EINVAL || job->e.code == UV_EMSGSIZE) &&
        (p->logged_ms == 0 || now - p->logged_ms >= ERROR_LOG_INTERVAL_MS)) {
        p->logged_ms = now;
        log_warn("database", "query failed",
                 LOG_F(log_str("query", job->query->name), log_str("error", job->e.text)));
    }
}

/* Calls the asker back; the job stays. */
static void answer(struct query_job *job)
{
    struct query_pool *p = job->pool;
    query_done_cb cb = job->cb;
    if (!cb) {
        return;
    }
    job->cb = NULL;
    slots_del(&p->ids, job->id); /* what follows may cancel it */
    if (job->e.code) {
        p->metrics->database_errors++;
        log_failure(p, job);
    } else {
        latency_add(&p->metrics->database_query, (uv_hrtime() - job->asked_ns) / 1000);
    }
    cb(job->ctx, job->token, job->e.code ? NULL : &job->rows, job->e.code ? &job->e : NULL);
}

/* Answers what has not been answered, whatever the database does with it. */
static void give_up(struct query_job *job, int code, const char *why)
{
    struct query_pool *p = job->pool;
    if (job->state == QUERY_RUNNING) {
        /* the backend still writes to the job: the error is a copy's */
        struct query_job gone = {.pool = p,
                                 .id = job->id,
                                 .query = job->query,
                                 .cb = job->cb,
                                 .ctx = job->ctx,
                                 .token = job->token};
        job->cb = NULL;
        if (p->ops->abandoned) {
            p->ops->abandoned(p, job);
        }
        (void)err_set(&gone.e, code, "%s", why);
        answer(&gone);
    } else {
        (void)err_set(&job->e, code, "%s", why);
        enter(job, QUERY_DONE);
    }
}

static void deliver(struct query_pool *p)
{
    struct list due;
    list_init(&due);
    list_splice_tail(&due, &p->done);
    while (!list_empty(&due)) {
        struct query_job *job = list_first(&due, struct query_job, node);
        list_del(&job->node);
        answer(job);
        job_free(job);
    }
}

static void on_deliver(struct task *task)
{
    deliver(container_of(task, struct query_pool, deliver));
}

void query_pool_failed(struct query_job *job)
{
    if (job->cb) {
        enter(job, QUERY_DONE);
    } else {
        job_free(job);
    }
}

void query_pool_done(struct query_job *job)
{
    struct query_pool *p = job->pool;
    query_pool_failed(job);
    query_pool_pump(p);
}

void query_pool_pump(struct query_pool *p)
{
    while (!p->closing && !list_empty(&p->queued)) {
        struct query_job *job = list_first(&p->queued, struct query_job, node);
        enter(job, QUERY_RUNNING); /* run() may be done with it before it returns */
        if (!p->ops->run(p, job)) {
            leave(job);
            job->state = QUERY_QUEUED;
            p->queued_count++;
            list_add_head(&p->queued, &job->node);
            show_counts(p);
            return;
        }
    }
}

void query_pool_away(struct query_pool *p, const struct err *e)
{
    if (!p->away && !p->closing) {
        log_warn("database", "away: policies that ask it get an error",
                 LOG_F(log_str("error", e->text)));
    }
    p->away = true;
    p->metrics->database_up = 0;
    (void)snprintf(p->away_text, sizeof p->away_text, "the database is away: %.200s", e->text);
    list_for_each_safe (it, tmp, &p->queued) {
        give_up(container_of(it, struct query_job, node), UV_ENOTCONN, p->away_text);
    }
}

void query_pool_back(struct query_pool *p)
{
    if (p->away) {
        log_info("database", "back", LOG_F(log_uint("waiting", p->queued_count)));
    }
    p->away = false;
    p->metrics->database_up = 1;
    query_pool_pump(p);
}

/* ---------------------------------------------------------------- time limits */

static void patience_set(struct query_pool *p, uint64_t due)
{
    uint64_t now = loop_now(p->loop);
    if (p->patience_due == 0 || due < p->patience_due) {
        p->patience_due = due;
        REQUIRE(uv_timer_start(&p->patience, on_patience, due > now ? due - now : 0, 0) == 0);
    }
}

static void give_up_late(struct query_pool *p, struct list *all, const char *why)
{
    uint64_t now = loop_now(p->loop);
    struct list late;
    list_init(&late);
    list_for_each_safe (it, tmp, all) {
        struct query_job *job = container_of(it, struct query_job, node);
        if (!job->cb) {
            continue;
        }
        if (job->due_ms > now) {
            patience_set(p, job->due_ms);
            continue;
        }
        p->metrics->database_shed += job->state == QUERY_QUEUED;
        give_up(job, UV_ETIMEDOUT, why);
    }
}

static void on_patience(uv_timer_t *timer)
{
    struct query_pool *p = timer->data;
    p->patience_due = 0;
    give_up_late(p, &p->running, "the database did not answer in time");
    give_up_late(p, &p->queued, "the database did not answer in time: too many queries wait");
}

unsigned query_job_left_ms(const struct query_job *job)
{
    uint64_t now = loop_now(job->pool->loop);
    return job->due_ms > now ? (unsigned)(job->due_ms - now) : 1;
}

/* ---------------------------------------------------------------- for users */

static int copy_args(struct query_job *job, const struct query_question *q, struct err *e)
{
    size_t bytes = 0;
    strbuf_init(&job->arg_text, ARGS_MAX_BYTES);
    for (size_t i = 0; i < q->arg_count; i++) {
        bytes += q->args[i].type == QUERY_TEXT ? q->args[i].text.n : 0;
    }
    if (bytes > ARGS_MAX_BYTES) {
        return err_set(e, UV_EINVAL, "arguments of more than %d bytes", (int)ARGS_MAX_BYTES);
    }
    int rc = strbuf_reserve(&job->arg_text, bytes + 1); /* so that it does not move below */
    job->args = xcalloc(q->arg_count + 1, sizeof *job->args);
    job->arg_count = q->arg_count;
    for (size_t i = 0; i < q->arg_count && rc == 0; i++) {
        struct slice text = q->args[i].text;
        job->args[i] = q->args[i];
        if (q->args[i].type == QUERY_TEXT) {
            job->args[i].text = slice_of(job->arg_text.data + job->arg_text.len, text.n);
            rc = text.n ? strbuf_append(&job->arg_text, text.p, text.n) : 0;
        }
    }
    return rc ? err_set(e, rc, "out of memory") : 0;
}

static int refuse(struct query_pool *p, const struct query_question *q, struct err *e)
{
    size_t expected = q->only_prepare ? 0 : q->query->parameters;
    if (p->closing) {
        return err_set(e, UV_ECANCELED, "the broker is stopping");
    }
    if (q->arg_count != expected) {
        return err_set(e, UV_EINVAL, "query \"%s\" takes %zu arguments, got %zu", q->query->name,
                       expected, q->arg_count);
    }
    if (p->away) {
        p->metrics->database_errors++;
        return err_set(e, UV_ENOTCONN, "%s", p->away_text);
    }
    if (p->queued_count >= p->opt.queue) {
        p->metrics->database_shed++;
        return err_set(e, UV_EAGAIN, "too many queries wait for the database");
    }
    return 0;
}

static int ask(struct query_source *s, const struct query_question *q, query_done_cb cb, void *ctx,
               uint64_t token, uint64_t *id, struct err *e)
{
    struct query_pool *p = of(s);
    int rc = refuse(p, q, e);
    if (rc) {
        return rc;
    }
    struct query_job *job = xcalloc(1, sizeof *job);
    unsigned limit = q->timeout_ms < p->opt.timeout_ms ? q->timeout_ms : p->opt.timeout_ms;
    list_init(&job->node);
    job->pool = p;
    rc = copy_args(job, q, e);
    if (rc) {
        job_free(job);
        return rc;
    }
    query_rows_init(&job->rows, p->opt.rows, p->opt.bytes);
    job->query = q->query;
    job->only_prepare = q->only_prepare;
    job->asked_ns = uv_hrtime();
    job->due_ms = loop_now(p->loop) + limit;
    job->cb = cb;
    job->ctx = ctx;
    job->token = token;
    job->id = slots_add(&p->ids, job);
    if (id) {
        *id = job->id;
    }
    p->metrics->database_queries++;
    patience_set(p, job->due_ms);
    enter(job, QUERY_QUEUED);
    query_pool_pump(p);
    return 0;
}

static void cancel(struct query_source *s, uint64_t id)
{
    struct query_pool *p = of(s);
    struct query_job *job = slots_get(&p->ids, id);
    if (!job) {
        return;
    }
    job->cb = NULL;
    slots_del(&p->ids, id);
    if (job->state != QUERY_RUNNING) {
        job_free(job);
    } else if (p->ops->abandoned) {
        p->ops->abandoned(p, job);
    }
}

/* ---------------------------------------------------------------- life */

static void on_closing(uv_timer_t *timer)
{
    struct query_pool *p = timer->data;
    list_for_each_safe (it, tmp, &p->running) {
        struct query_job *job = container_of(it, struct query_job, node);
        if (job->cb) {
            give_up(job, UV_ECANCELED, "the broker is stopping");
        }
    }
    list_for_each_safe (it, tmp, &p->queued) {
        give_up(container_of(it, struct query_job, node), UV_ECANCELED, "the broker is stopping");
    }
    task_cancel(&p->deliver);
    deliver(p);
    p->ops->close(p);
}

static void on_patience_closed(uv_handle_t *h)
{
    struct query_pool *p = h->data;
    REQUIRE(list_empty(&p->running));
    p->is_closed = true;
    if (p->closed) {
        p->closed(p->closed_ctx);
    }
}

static void free_source(struct query_source *s)
{
    struct query_pool *p = of(s);
    REQUIRE(p->is_closed);
    for (size_t i = 0; i < p->query_count; i++) {
        free(p->queries[i]->name);
        free(p->queries[i]->sql);
        free(p->queries[i]);
    }
    free(p->queries);
    slots_clear(&p->ids);
    p->ops->free(p);
}

void query_pool_closed(struct query_pool *p)
{
    uv_close((uv_handle_t *)&p->patience, on_patience_closed);
}

static void close_source(struct query_source *s, void (*closed)(void *ctx), void *ctx)
{
    struct query_pool *p = of(s);
    REQUIRE(!p->closing);
    p->closing = true;
    p->closed = closed;
    p->closed_ctx = ctx;
    REQUIRE(uv_timer_start(&p->patience, on_closing, 0, 0) == 0);
}

void query_pool_init(struct query_pool *p, const struct query_backend_ops *ops,
                     const struct query_pool_options *opt, struct loop *loop,
                     struct broker_metrics *metrics)
{
    static const struct query_source_ops source_ops = {.declare = declare,
                                                       .parameters = parameters_of,
                                                       .ask = ask,
                                                       .cancel = cancel,
                                                       .close = close_source,
                                                       .free = free_source};
    p->base.ops = &source_ops;
    p->ops = ops;
    p->opt = *opt;
    p->loop = loop;
    p->metrics = metrics;
    list_init(&p->queued);
    list_init(&p->running);
    list_init(&p->done);
    slots_init(&p->ids);
    task_init(&p->deliver, on_deliver);
    REQUIRE(uv_timer_init(loop_uv(loop), &p->patience) == 0);
    p->patience.data = p;
}
