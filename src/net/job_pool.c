/* See job_pool.h. */
#include "net/job_pool.h"

#include "base/container_of.h"
#include "base/require.h"

static void job_pool_on_timer(uv_timer_t *timer);

/* ---------------------------------------------------------------- states */

static void job_leave(struct job *j)
{
    struct job_pool *p = j->pool;
    if (list_linked(&j->node)) {
        p->queued_count -= j->state == JOB_QUEUED;
        p->active_count -= j->state == JOB_ACTIVE;
        p->own_active -= j->state == JOB_ACTIVE && j->own;
        list_del(&j->node);
    }
    *p->opt.queued_n = p->queued_count;
    *p->opt.active_n = p->active_count;
}

/* `first`: of those in that state. */
static void job_enter(struct job *j, enum job_state state, bool first)
{
    struct job_pool *p = j->pool;
    struct list *all = state == JOB_QUEUED   ? &p->queued
                       : state == JOB_ACTIVE ? &p->active
                                             : &p->done;
    job_leave(j);
    j->state = state;
    if (first) {
        list_add_head(all, &j->node);
    } else {
        list_add_tail(all, &j->node);
    }
    p->queued_count += state == JOB_QUEUED;
    p->active_count += state == JOB_ACTIVE;
    p->own_active += state == JOB_ACTIVE && j->own;
    *p->opt.queued_n = p->queued_count;
    *p->opt.active_n = p->active_count;
}

void job_pool_done(struct job *j)
{
    job_enter(j, JOB_DONE, false);
    loop_defer(j->pool->loop, &j->pool->deliver);
}

void job_pool_forget(struct job *j)
{
    slots_del(&j->pool->ids, j->id);
    j->id = 0;
}

void job_pool_remove(struct job *j)
{
    job_leave(j);
    job_pool_forget(j);
}

bool job_pool_has_room(const struct job_pool *p)
{
    return p->active_count - p->own_active < p->opt.max_active;
}

void job_pool_pump(struct job_pool *p)
{
    while (!p->closing && !list_empty(&p->queued)) {
        struct job *j = list_first(&p->queued, struct job, node);
        if (!j->own && !job_pool_has_room(p)) {
            return;
        }
        job_enter(j, JOB_ACTIVE, false); /* start() may be done with it before it returns */
        if (!p->ops->start(p, j)) {
            job_enter(j, JOB_QUEUED, true);
            return;
        }
    }
}

/* ---------------------------------------------------------------- time limits */

static void job_pool_set_timer(struct job_pool *p, uint64_t due)
{
    uint64_t now = loop_now(p->loop);
    if (p->timer_due == 0 || due < p->timer_due) {
        p->timer_due = due;
        REQUIRE(uv_timer_start(&p->timer, job_pool_on_timer, due > now ? due - now : 0, 0) == 0);
    }
}

static void job_pool_give_up_late(struct job_pool *p, struct list *all)
{
    uint64_t now = loop_now(p->loop);
    list_for_each_safe (it, tmp, all) {
        struct job *j = container_of(it, struct job, node);
        if (j->id && j->due_ms <= now) {
            p->ops->give_up(p, j, UV_ETIMEDOUT);
        } else if (j->id) {
            job_pool_set_timer(p, j->due_ms);
        }
    }
}

static void job_pool_on_timer(uv_timer_t *timer)
{
    struct job_pool *p = timer->data;
    p->timer_due = 0;
    job_pool_give_up_late(p, &p->active);
    job_pool_give_up_late(p, &p->queued);
    job_pool_pump(p);
}

unsigned job_left_ms(const struct job *j)
{
    uint64_t now = loop_now(j->pool->loop);
    return j->due_ms > now ? (unsigned)(j->due_ms - now) : 1;
}

void job_pool_add(struct job_pool *p, struct job *j, bool own, uint64_t timeout_ms)
{
    REQUIRE(!p->closing);
    list_init(&j->node);
    j->pool = p;
    j->own = own;
    j->id = slots_add(&p->ids, j);
    j->due_ms = loop_now(p->loop) + timeout_ms;
    job_pool_set_timer(p, j->due_ms);
    job_enter(j, JOB_QUEUED, own);
    job_pool_pump(p);
}

/* ---------------------------------------------------------------- delivery, the end */

static void job_pool_deliver(struct job_pool *p)
{
    struct list due;
    list_init(&due);
    list_splice_tail(&due, &p->done);
    while (!list_empty(&due)) {
        struct job *j = list_first(&due, struct job, node);
        list_del(&j->node);
        p->ops->deliver(p, j);
    }
}

static void job_pool_on_deliver(struct task *t)
{
    job_pool_deliver(container_of(t, struct job_pool, deliver));
}

static void job_pool_give_up_all(struct job_pool *p, struct list *all)
{
    list_for_each_safe (it, tmp, all) {
        struct job *j = container_of(it, struct job, node);
        if (j->id) {
            p->ops->give_up(p, j, UV_ECANCELED);
        }
    }
}

static void job_pool_on_closing(uv_timer_t *timer)
{
    struct job_pool *p = timer->data;
    job_pool_give_up_all(p, &p->active);
    job_pool_give_up_all(p, &p->queued);
    task_cancel(&p->deliver);
    job_pool_deliver(p); /* nothing can be added any more */
    p->ops->close(p);
}

void job_pool_close(struct job_pool *p, void (*closed)(void *ctx), void *ctx)
{
    REQUIRE(!p->closing);
    p->closing = true;
    p->closed = closed;
    p->closed_ctx = ctx;
    /* a deferred task alone would not keep the loop running */
    REQUIRE(uv_timer_start(&p->timer, job_pool_on_closing, 0, 0) == 0);
}

static void job_pool_on_closed(uv_handle_t *h)
{
    struct job_pool *p = h->data;
    REQUIRE(list_empty(&p->active));
    p->is_closed = true;
    if (p->closed) {
        p->closed(p->closed_ctx);
    }
}

void job_pool_closed(struct job_pool *p)
{
    uv_close((uv_handle_t *)&p->timer, job_pool_on_closed);
}

void job_pool_clear(struct job_pool *p)
{
    REQUIRE(p->is_closed);
    slots_clear(&p->ids);
}

void job_pool_init(struct job_pool *p, const struct job_pool_ops *ops,
                   const struct job_pool_options *opt, struct loop *loop)
{
    *p = (struct job_pool){.ops = ops, .opt = *opt, .loop = loop};
    list_init(&p->queued);
    list_init(&p->active);
    list_init(&p->done);
    slots_init(&p->ids);
    task_init(&p->deliver, job_pool_on_deliver);
    REQUIRE(uv_timer_init(loop_uv(loop), &p->timer) == 0);
    p->timer.data = p;
}
