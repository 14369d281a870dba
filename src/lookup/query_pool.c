/* See query_pool.h. Time limits are those of the asker: when one passes, the asker gets its answer
 * at once; a job that runs stays with its connection until the database lets go of it, which
 * backends bound on their side. */
#include "lookup/query_pool.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/logging.h"
#include "lookup/query_sql.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { QUERIES_MAX = 10000, ARGS_MAX_BYTES = 256 * 1024, ERROR_LOG_INTERVAL_MS = 10000 };

static struct query_pool *query_pool_of(struct query_source *s)
{
    return container_of(s, struct query_pool, base);
}

/* ---------------------------------------------------------------- declared queries */

/* PostgreSQL's parser runs once per connection and text; the key is not a secret, since nobody but
 * the operator chooses the texts. */
static const struct hash_key query_pool_hash_key = {UINT64_C(0x7469646567617465),
                                                    UINT64_C(0x71756572696573)};

static int query_pool_declare(struct query_source *s, struct slice name, struct slice sql,
                              const struct query **out, struct err *e)
{
    struct query_pool *p = query_pool_of(s);
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
                   (unsigned long long)hash_bytes(&query_pool_hash_key, sql.p, sql.n));
    p->queries = xrealloc(p->queries, (p->query_count + 1) * sizeof *p->queries);
    p->queries[p->query_count++] = q;
    *out = q;
    return 0;
}

static unsigned query_pool_parameters_of(const struct query *q)
{
    return q->parameters;
}

/* ---------------------------------------------------------------- answers */

static struct query_pool *query_pool_of_jobs(struct job_pool *p)
{
    return container_of(p, struct query_pool, jobs);
}

static struct query_job *query_job_of(struct job *j)
{
    return container_of(j, struct query_job, job);
}

static void query_job_free(struct query_job *job)
{
    query_rows_clear(&job->rows);
    if (job->sink.row) {
        job->sink.release(job->sink.ctx);
    }
    strbuf_clear(&job->arg_text);
    free(job->args);
    free(job);
}

/* A query that fails is the policy's mistake, or the schema's: said once in a while. */
static void query_pool_log(struct query_pool *p, const struct query *q, const struct err *e)
{
    uint64_t now = loop_now(p->loop);
    if ((e->code == UV_EINVAL || e->code == UV_EMSGSIZE) &&
        (p->logged_ms == 0 || now - p->logged_ms >= ERROR_LOG_INTERVAL_MS)) {
        p->logged_ms = now;
        log_warn("database", "query failed",
                 LOG_F(log_str("query", q->name), log_str("error", e->text)));
    }
}

/* Calls the asker back, with the rows when `e` is no error; the job stays. */
static void query_pool_answer(struct query_job *job, const struct err *e)
{
    struct query_pool *p = job->pool;
    job_pool_forget(&job->job); /* what follows may cancel it */
    if (e->code) {
        p->metrics->database_errors++;
        if (!job->sink.row) { /* whoever has a sink says more of it */
            query_pool_log(p, job->query, e);
        }
    } else {
        latency_add(&p->metrics->database_query, (uv_hrtime() - job->asked_ns) / 1000);
    }
    job->cb(job->ctx, job->token, e->code ? NULL : &job->rows, e->code ? e : NULL);
}

static void query_pool_deliver(struct job_pool *jobs, struct job *j)
{
    struct query_job *job = query_job_of(j);
    (void)jobs;
    if (j->id) {
        query_pool_answer(job, &job->e);
    }
    query_job_free(job);
}

/* Answers what has not been answered, whatever the database does with it. */
static void query_pool_fail(struct query_job *job, int code, const char *why)
{
    struct query_pool *p = job->pool;
    if (job->job.state != JOB_ACTIVE) {
        (void)err_set(&job->e, code, "%s", why);
        job_pool_done(&job->job);
        return;
    }
    struct err e = {0}; /* the backend still writes to the job */
    (void)err_set(&e, code, "%s", why);
    if (p->ops->abandoned) {
        p->ops->abandoned(p, job);
    }
    query_pool_answer(job, &e);
}

static void query_pool_give_up(struct job_pool *jobs, struct job *j, int code)
{
    const char *why = "the broker is stopping";
    if (code == UV_ETIMEDOUT) {
        query_pool_of_jobs(jobs)->metrics->database_shed += j->state == JOB_QUEUED;
        why = j->state == JOB_QUEUED ? "the database did not answer in time: too many queries wait"
                                     : "the database did not answer in time";
    }
    query_pool_fail(query_job_of(j), code, why);
}

static bool query_pool_start(struct job_pool *jobs, struct job *j)
{
    struct query_pool *p = query_pool_of_jobs(jobs);
    return p->ops->run(p, query_job_of(j));
}

void query_pool_row(struct query_job *job, const struct query_value *cells, size_t n)
{
    if (job->sink.row) {
        (void)job->sink.row(job->sink.ctx, cells, n, &job->e);
        return;
    }
    for (size_t i = 0; i < n && job->e.code == 0; i++) {
        (void)query_rows_add(&job->rows, &cells[i], &job->e);
    }
}

void query_pool_settle(struct query_job *job)
{
    if (job->job.id) {
        job_pool_done(&job->job);
    } else {
        job_pool_remove(&job->job);
        query_job_free(job);
    }
}

void query_pool_done(struct query_job *job)
{
    struct query_pool *p = job->pool;
    query_pool_settle(job);
    job_pool_pump(&p->jobs);
}

void query_pool_away(struct query_pool *p, const struct err *e)
{
    if (!p->away && !p->jobs.closing) {
        log_warn("database", "away: policies that ask it get an error",
                 LOG_F(log_str("error", e->text)));
    }
    p->away = true;
    p->metrics->database_up = 0;
    (void)snprintf(p->away_text, sizeof p->away_text, "the database is away: %.200s", e->text);
    list_for_each_safe (it, tmp, &p->jobs.queued) {
        query_pool_fail(query_job_of(container_of(it, struct job, node)), UV_ENOTCONN,
                        p->away_text);
    }
}

void query_pool_back(struct query_pool *p)
{
    if (p->away) {
        log_info("database", "back", LOG_F(log_uint("waiting", p->jobs.queued_count)));
    }
    p->away = false;
    p->metrics->database_up = 1;
    job_pool_pump(&p->jobs);
}

/* ---------------------------------------------------------------- for users */

static int query_pool_copy_args(struct query_job *job, const struct query_question *q,
                                struct err *e)
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

static int query_pool_refuse(struct query_pool *p, const struct query_question *q, struct err *e)
{
    size_t expected = q->only_prepare ? 0 : q->query->parameters;
    if (p->jobs.closing) {
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
    if (p->jobs.queued_count >= p->opt.queue) {
        p->metrics->database_shed++;
        return err_set(e, UV_EAGAIN, "too many queries wait for the database");
    }
    return 0;
}

static int query_pool_ask(struct query_source *s, const struct query_question *q, query_done_cb cb,
                          void *ctx, uint64_t token, uint64_t *id, struct err *e)
{
    struct query_pool *p = query_pool_of(s);
    int rc = query_pool_refuse(p, q, e);
    if (rc) {
        return rc;
    }
    struct query_job *job = xcalloc(1, sizeof *job);
    job->pool = p;
    rc = query_pool_copy_args(job, q, e);
    if (rc) {
        query_job_free(job);
        return rc;
    }
    query_rows_init(&job->rows, p->opt.rows, p->opt.bytes);
    job->sink = q->sink ? *q->sink : (struct query_sink){.row = NULL};
    job->query = q->query;
    job->only_prepare = q->only_prepare;
    job->asked_ns = uv_hrtime();
    job->cb = cb;
    job->ctx = ctx;
    job->token = token;
    p->metrics->database_queries++;
    job_pool_add(&p->jobs, &job->job, false,
                 q->timeout_ms < p->opt.timeout_ms ? q->timeout_ms : p->opt.timeout_ms);
    if (id) {
        *id = job->job.id;
    }
    return 0;
}

static void query_pool_cancel(struct query_source *s, uint64_t id)
{
    struct query_pool *p = query_pool_of(s);
    struct job *j = slots_get(&p->jobs.ids, id);
    if (!j) {
        return;
    }
    if (j->state != JOB_ACTIVE) {
        job_pool_remove(j);
        query_job_free(query_job_of(j));
        return;
    }
    job_pool_forget(j);
    if (p->ops->abandoned) {
        p->ops->abandoned(p, query_job_of(j));
    }
}

/* ---------------------------------------------------------------- life */

static void query_pool_close_backend(struct job_pool *jobs)
{
    struct query_pool *p = query_pool_of_jobs(jobs);
    p->ops->close(p);
}

static void query_pool_free_source(struct query_source *s)
{
    struct query_pool *p = query_pool_of(s);
    job_pool_clear(&p->jobs);
    for (size_t i = 0; i < p->query_count; i++) {
        free(p->queries[i]->name);
        free(p->queries[i]->sql);
        free(p->queries[i]);
    }
    free(p->queries);
    p->ops->free(p);
}

void query_pool_closed(struct query_pool *p)
{
    job_pool_closed(&p->jobs);
}

static void query_pool_close_source(struct query_source *s, void (*closed)(void *ctx), void *ctx)
{
    job_pool_close(&query_pool_of(s)->jobs, closed, ctx);
}

void query_pool_init(struct query_pool *p, const struct query_backend_ops *ops,
                     const struct query_pool_options *opt, struct loop *loop,
                     struct lookup_metrics *metrics)
{
    static const struct query_source_ops source_ops = {.declare = query_pool_declare,
                                                       .parameters = query_pool_parameters_of,
                                                       .ask = query_pool_ask,
                                                       .cancel = query_pool_cancel,
                                                       .close = query_pool_close_source,
                                                       .free = query_pool_free_source};
    static const struct job_pool_ops job_ops = {.start = query_pool_start,
                                                .give_up = query_pool_give_up,
                                                .deliver = query_pool_deliver,
                                                .close = query_pool_close_backend};
    p->base.ops = &source_ops;
    p->ops = ops;
    p->opt = *opt;
    p->loop = loop;
    p->metrics = metrics;
    job_pool_init(&p->jobs, &job_ops,
                  &(struct job_pool_options){.max_active = UINT_MAX, /* connections are the cap */
                                             .queued_n = &metrics->database_queued,
                                             .active_n = &metrics->database_running},
                  loop);
}
