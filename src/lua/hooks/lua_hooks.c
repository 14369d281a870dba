#include "lua/hooks/lua_hooks.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "lua/api/lua_json.h"
#include "lua/api/lua_request.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <uv.h>

/* ---------------------------------------------------------------- results */

static void hook_result_free(struct lua_hook_result *a)
{
    event_list_clear(&a->events);
    for (size_t i = 0; i < a->made_count; i++) {
        free((char *)(uintptr_t)a->made[i].dropped);
    }
    free(a->made);
    verdict_draft_clear(&a->draft);
    free(a);
}

static void hook_result_deliver(struct task *t)
{
    struct lua_hook_result *a = container_of(t, struct lua_hook_result, task);
    if (a->on_verdict) {
        a->on_verdict(a->ctx, a->token, &a->draft.v);
    } else {
        a->on_publish(a->ctx, a->token, &a->draft.v, &a->events, a->made);
    }
    hook_result_free(a);
}

/* `limits` is borrowed until the result is sent. */
static struct lua_hook_result *hook_result_new(const struct policy_limits *limits, void *ctx,
                                               uint64_t token)
{
    struct lua_hook_result *a = xcalloc(1, sizeof *a);
    task_init(&a->task, hook_result_deliver);
    a->ctx = ctx;
    a->token = token;
    verdict_draft_init(&a->draft, limits);
    return a;
}

/* Finishes the draft; the result frees itself after its callback. */
static void hook_result_send(struct lua_hook_result *a, struct loop *loop)
{
    verdict_draft_finish(&a->draft);
    if (a->draft.v.kind != VERDICT_ALLOW) {
        event_list_clear(&a->events);
    }
    loop_defer(loop, &a->task);
}

/* ---------------------------------------------------------------- what every hook needs */

struct lua_hook_call *hook_call_of(lua_State *L)
{
    return container_of(lua_touserdata(L, 1), struct lua_hook_call, job);
}

void hook_push(lua_State *L, struct lua_hook_call *q, enum policy_hook hook)
{
    q->hook = hook;
    lua_vm_start(L, &q->watch);
    lua_vm_rename(L, &q->shared->budgets->hooks[hook]);
    lua_vm_push(L, q->shared->file->hooks[hook].ref);
}

void hook_popped(lua_State *L, struct lua_hook_call *q)
{
    uint64_t wall_ns, cpu_ns = lua_vm_stop(L, &q->watch, &wall_ns);
    q->shared->timed(q->shared->ctx, q->hook, wall_ns, cpu_ns);
}

void hook_push_identity(lua_State *L, struct slice identity)
{
    struct lua_json_error why;
    if (identity.n == 0 || slice_is(identity, "{}")) { /* as without an authenticate hook */
        lua_newtable(L);
    } else if (lua_json_decode(L, identity, &why) != LUA_JSON_OK) {
        luaL_error(L, "the identity cannot be read: %s", why.text);
    }
}

/* ---------------------------------------------------------------- calls, from the loop */

static void hook_call_free(struct lua_hook_call *q)
{
    event_list_clear(&q->asked);
    event_list_clear(&q->out.events);
    free(q);
}

static const char *hook_call_reason(int rc)
{
    switch (rc) {
    case UV_ETIMEDOUT:
        return "the policy took too long";
    case UV_EAGAIN:
        return "too many hooks wait";
    case UV_ENOTCONN:
        return "something the policy needs is not available";
    case UV_ECANCELED:
        return "the policy was closed";
    default:
        return "policy error";
    }
}

/* Not for want of time, of room, or of what the hook needed from others. */
static bool hook_call_is_error(int rc)
{
    return rc && rc != UV_ETIMEDOUT && rc != UV_EAGAIN && rc != UV_ENOTCONN && rc != UV_ECANCELED;
}

static void hook_ready_deliver(struct task *t)
{
    struct lua_ready *r = container_of(t, struct lua_ready, task);
    r->cb(r->ctx, r->rc, &r->e);
    free(r);
}

static void hook_call_prepared(struct lua_hook_call *q, int rc, const struct err *e)
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
    hook_call_free(q);
}

/* The hook that was under way when the call ended: it failed, or nobody wanted what it returned. */
static void hook_call_time(struct lua_hook_call *q)
{
    if (q->watch.from.wall_ns) {
        uint64_t wall_ns, cpu_ns = lua_meter_stop(&q->job.meter, &q->watch, &wall_ns);
        q->shared->timed(q->shared->ctx, q->hook, wall_ns, cpu_ns);
    }
}

/* It would fail as often as the client sent it. */
static void hook_call_deny_event(struct lua_hook_call *q)
{
    struct verdict_draft *d = &q->result->draft;
    verdict_draft_fail(d, "the policy cannot take this event: a text in it cannot be used, as part "
                          "of a topic for example");
    d->v.kind = VERDICT_DENY;
    d->v.status = 400;
    (void)hook_publish_name_event(q); /* without memory the status says it */
}

static void hook_call_on_done(struct lua_job *job, int rc, const struct err *e)
{
    struct lua_hook_call *q = container_of(job, struct lua_hook_call, job);
    const struct lua_hooks *s = q->shared;
    struct lua_hook_result *a = q->result;
    bool refused = false;
    if (rc != UV_ECANCELED) {
        hook_call_time(q);
        refused = s->settled(s->ctx, q, rc, e);
    }
    if (q->ready) {
        hook_call_prepared(q, rc, e);
        return;
    }
    if (a && rc == UV_ECANCELED && !s->closing) {
        hook_result_free(a);
    } else if (a) {
        if (refused) {
            hook_call_deny_event(q);
        } else if (rc) {
            verdict_draft_fail(&a->draft, hook_call_reason(rc));
            a->draft.v.failed = hook_call_is_error(rc);
        }
        a->draft.v.hook = policy_hook_name(q->hook);
        a->events = q->out.events;
        q->out.events = (struct event_list){0};
        hook_result_send(a, s->loop);
    }
    hook_call_free(q);
}

static struct lua_hook_call *hook_call_new(const struct lua_hooks *s, lua_CFunction body,
                                           enum policy_hook hook, uint64_t timeout_ms)
{
    struct lua_hook_call *q = xcalloc(1, sizeof *q);
    q->job = (struct lua_job){.body = body, .done = hook_call_on_done, .timeout_ms = timeout_ms};
    q->shared = s;
    q->hook = hook;
    q->job.meter.allowed = lua_budget_allow(&s->budgets->hooks[hook], 0);
    return q;
}

static void hook_call_ask(struct lua_hook_call *q, const struct policy_request *rq)
{
    bool known = q->identity.p != NULL, given = known || rq->who.p;
    q->rq = rq;
    lua_request_id(rq, &q->request);
    q->hook = !given && lua_policy_file_has(q->shared->file, POLICY_HOOK_AUTHENTICATE)
                  ? POLICY_HOOK_AUTHENTICATE
                  : q->hook;
    q->job.token = q->result->token;
    bool background = known && q->result->on_verdict && !rq->unanswered;
    q->job.background = background; /* the broker asks by itself: clients who wait come first */
    q->job.owner = background ? (struct peer_address){{0}} : rq->client; /* as a Unix socket's */
    lua_coro_start(q->shared->coros, &q->job);
}

void lua_hooks_subscribe(const struct lua_hooks *s, const struct policy_request *rq,
                         policy_verdict_cb cb, void *ctx, uint64_t token)
{
    struct lua_hook_call *q =
        hook_call_new(s, hook_authenticate, POLICY_HOOK_SUBSCRIBE, s->subscribe_timeout_ms);
    q->result = hook_result_new(s->limits, ctx, token);
    q->result->on_verdict = cb;
    hook_call_ask(q, rq);
}

void lua_hooks_resubscribe(const struct lua_hooks *s, const struct policy_request *rq,
                           struct slice identity, policy_verdict_cb cb, void *ctx, uint64_t token)
{
    struct lua_hook_call *q =
        hook_call_new(s, hook_resubscribe, POLICY_HOOK_SUBSCRIBE, s->subscribe_timeout_ms);
    q->identity = identity;
    q->unanswered = rq->unanswered;
    q->result = hook_result_new(s->limits, ctx, token);
    q->result->on_verdict = cb;
    hook_call_ask(q, rq);
}

void lua_hooks_setup(const struct lua_hooks *s, const char *version, const char *previous,
                     policy_ready_cb cb, void *ctx)
{
    struct lua_hook_call *q =
        hook_call_new(s, hook_setup, POLICY_HOOK_SETUP, POLICY_SETUP_TIMEOUT_MS);
    q->version = version;
    q->previous = previous;
    q->ready = xcalloc(1, sizeof *q->ready);
    q->ready->cb = cb;
    q->ready->ctx = ctx;
    task_init(&q->ready->task, hook_ready_deliver);
    if (lua_policy_file_has(s->file, POLICY_HOOK_SETUP)) {
        lua_coro_start(s->coros, &q->job);
    } else {
        hook_call_prepared(q, 0, NULL);
    }
}

static void hook_call_refuse_publish(struct lua_hook_result *a, struct loop *loop)
{
    static const char reason[] = "this policy accepts no publishes";
    a->draft.v.kind = VERDICT_DENY;
    a->draft.v.status = 403;
    a->draft.v.hook = policy_hook_name(POLICY_HOOK_PUBLISH);
    if (strbuf_append(&a->draft.reason, reason, sizeof reason - 1)) {
        strbuf_reset(&a->draft.reason); /* no memory: the status says it */
    }
    hook_result_send(a, loop);
}

void lua_hooks_authenticate(const struct lua_hooks *s, const struct policy_request *rq,
                            policy_verdict_cb cb, void *ctx, uint64_t token)
{
    struct lua_hook_result *a = hook_result_new(s->limits, ctx, token);
    a->on_verdict = cb;
    if (!lua_policy_file_has(s->file, POLICY_HOOK_PUBLISH)) {
        hook_call_refuse_publish(a, s->loop);
        return;
    }
    struct lua_hook_call *q =
        hook_call_new(s, hook_authenticate, POLICY_HOOK_AUTHENTICATE, s->publish_timeout_ms);
    q->only = true;
    q->result = a;
    hook_call_ask(q, rq);
}

void lua_hooks_publish(const struct lua_hooks *s, const struct policy_request *rq,
                       struct event_list *asked, policy_publish_cb cb, void *ctx, uint64_t token)
{
    struct lua_hook_result *a = hook_result_new(s->limits, ctx, token);
    a->on_publish = cb;
    if ((asked->n || rq->events) && !lua_policy_file_has(s->file, POLICY_HOOK_PUBLISH)) {
        event_list_clear(asked);
        hook_call_refuse_publish(a, s->loop);
        return;
    }
    struct lua_hook_call *q =
        hook_call_new(s, rq->identity.p ? hook_publish_known : hook_authenticate,
                      POLICY_HOOK_AUTHENTICATE, s->publish_timeout_ms);
    q->hook = POLICY_HOOK_PUBLISH;
    q->result = a;
    q->identity = rq->identity;
    q->events = rq->events;
    q->body_bytes = rq->events ? rq->http->body.len : 0;
    q->asked = *asked;
    *asked = (struct event_list){0};
    q->out = (struct publication_out){.max_data = s->event_bytes, .bytes_left = s->batch_bytes};
    hook_call_ask(q, rq);
}

void lua_hooks_disconnect(const struct lua_hooks *s, struct slice identity,
                          const struct disconnect_info *info)
{
    struct lua_hook_call *q =
        hook_call_new(s, hook_disconnect, POLICY_HOOK_DISCONNECT, s->subscribe_timeout_ms);
    q->identity = identity;
    q->info = info;
    q->job.background = true;
    lua_coro_start(s->coros, &q->job);
}
