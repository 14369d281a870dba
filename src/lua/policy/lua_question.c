#include "lua/policy/lua_question.h"

#include "base/xalloc.h"
#include "lua/policy/lua_gates.h"

#include <stdlib.h>
#include <uv.h>

static void question_free(struct lua_question *q)
{
    event_list_clear(&q->asked);
    event_list_clear(&q->out.events);
    free(q);
}

static const char *reason_of(int rc)
{
    switch (rc) {
    case UV_ETIMEDOUT:
        return "the policy took too long";
    case UV_EAGAIN:
        return "too many questions wait";
    case UV_ENOTCONN:
        return "something the policy needs is not available";
    case UV_ECANCELED:
        return "the policy was closed";
    default:
        return "policy error";
    }
}

/* Not for want of time, of room, or of what the hook needed from others. */
static bool is_error(int rc)
{
    return rc && rc != UV_ETIMEDOUT && rc != UV_EAGAIN && rc != UV_ENOTCONN && rc != UV_ECANCELED;
}

static void deliver_ready(struct task *t)
{
    struct lua_ready *r = container_of(t, struct lua_ready, task);
    r->cb(r->ctx, r->rc, &r->e);
    free(r);
}

static void prepared(struct lua_question *q, int rc, const struct err *e)
{
    struct lua_ready *r = q->ready;
    if (rc == UV_ECANCELED) {
        free(r);
    } else {
        r->rc = rc;
        if (rc) {
            r->e = *e;
        }
        loop_defer(q->shared->loop, &r->task);
    }
    question_free(q);
}

static void on_done(struct lua_job *job, int rc, const struct err *e)
{
    struct lua_question *q = container_of(job, struct lua_question, job);
    const struct lua_questions *s = q->shared;
    struct lua_answer *a = q->answer;
    if (q->ready) {
        prepared(q, rc, e);
        return;
    }
    if (rc != UV_ECANCELED) {
        s->settled(s->ctx, q, rc, e);
    }
    if (a && rc == UV_ECANCELED && !s->closing) {
        lua_answer_free(a);
    } else if (a) {
        if (rc) {
            verdict_draft_fail(&a->draft, reason_of(rc));
            a->draft.v.failed = is_error(rc);
        }
        a->events = q->out.events;
        q->out.events = (struct event_list){0};
        lua_answer_send(a, s->loop);
    }
    question_free(q);
}

static struct lua_question *question_new(const struct lua_questions *s, lua_CFunction body,
                                         enum policy_hook hook, uint64_t timeout_ms)
{
    struct lua_question *q = xcalloc(1, sizeof *q);
    q->job = (struct lua_job){.body = body, .done = on_done, .timeout_ms = timeout_ms};
    q->shared = s;
    q->hook = hook;
    q->job.meter.allowed = lua_budget_allow(&s->budgets->hooks[hook], 0);
    return q;
}

static void ask(struct lua_question *q, const struct policy_request *rq)
{
    bool known = q->identity.p != NULL, given = known || rq->who.p;
    q->rq = rq;
    q->request = rq->id;
    q->hook = !given && lua_policy_file_has(q->shared->file, POLICY_HOOK_AUTHENTICATE)
                  ? POLICY_HOOK_AUTHENTICATE
                  : q->hook;
    q->job.token = q->answer->token;
    q->job.background = known; /* the broker asks by itself: clients who wait come first */
    q->job.owner = known ? (struct peer_address){{0}} : rq->client; /* a Unix socket's is 0, too */
    lua_coro_start(q->shared->coros, &q->job);
}

void lua_question_subscribe(const struct lua_questions *s, const struct policy_request *rq,
                            policy_verdict_cb cb, void *ctx, uint64_t token)
{
    struct lua_question *q =
        question_new(s, lua_gate_subscribe, POLICY_HOOK_SUBSCRIBE, s->subscribe_timeout_ms);
    q->answer = lua_answer_new(s->limits, ctx, token);
    q->answer->on_subscribe = cb;
    ask(q, rq);
}

void lua_question_resubscribe(const struct lua_questions *s, const struct policy_request *rq,
                              struct slice identity, policy_verdict_cb cb, void *ctx,
                              uint64_t token)
{
    struct lua_question *q =
        question_new(s, lua_gate_resubscribe, POLICY_HOOK_SUBSCRIBE, s->subscribe_timeout_ms);
    q->identity = identity;
    q->answer = lua_answer_new(s->limits, ctx, token);
    q->answer->on_subscribe = cb;
    ask(q, rq);
}

void lua_question_setup(const struct lua_questions *s, const char *version, const char *previous,
                        policy_ready_cb cb, void *ctx)
{
    struct lua_question *q =
        question_new(s, lua_gate_setup, POLICY_HOOK_SETUP, POLICY_SETUP_TIMEOUT_MS);
    q->version = version;
    q->previous = previous;
    q->ready = xcalloc(1, sizeof *q->ready);
    q->ready->cb = cb;
    q->ready->ctx = ctx;
    task_init(&q->ready->task, deliver_ready);
    if (lua_policy_file_has(s->file, POLICY_HOOK_SETUP)) {
        lua_coro_start(s->coros, &q->job);
    } else {
        prepared(q, 0, NULL);
    }
}

static void refuse_publish(struct lua_answer *a, struct loop *loop)
{
    static const char reason[] = "this policy accepts no publishes";
    a->draft.v.kind = VERDICT_DENY;
    a->draft.v.status = 403;
    if (strbuf_append(&a->draft.reason, reason, sizeof reason - 1)) {
        strbuf_reset(&a->draft.reason); /* no memory: the status says it */
    }
    lua_answer_send(a, loop);
}

void lua_question_publish(const struct lua_questions *s, const struct policy_request *rq,
                          struct event_list *asked, policy_publish_cb cb, void *ctx, uint64_t token)
{
    struct lua_answer *a = lua_answer_new(s->limits, ctx, token);
    a->on_publish = cb;
    if (asked->n && !lua_policy_file_has(s->file, POLICY_HOOK_PUBLISH)) {
        event_list_clear(asked);
        refuse_publish(a, s->loop);
        return;
    }
    struct lua_question *q =
        question_new(s, lua_gate_publish, POLICY_HOOK_AUTHENTICATE, s->publish_timeout_ms);
    q->hook = POLICY_HOOK_PUBLISH;
    q->answer = a;
    a->first = xcalloc(asked->n, sizeof *a->first);
    q->asked = *asked;
    *asked = (struct event_list){0};
    q->out = (struct publication_out){.max_data = s->event_bytes, .bytes_left = s->batch_bytes};
    ask(q, rq);
}

void lua_question_disconnect(const struct lua_questions *s, struct slice identity,
                             const struct disconnect_info *info)
{
    struct lua_question *q =
        question_new(s, lua_gate_disconnect, POLICY_HOOK_DISCONNECT, s->subscribe_timeout_ms);
    q->identity = identity;
    q->info = info;
    q->job.background = true;
    lua_coro_start(s->coros, &q->job);
}
