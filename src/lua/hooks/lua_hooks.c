#include "lua/hooks/lua_hooks.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "lua/api/lua_api.h"
#include "lua/api/lua_json.h"
#include "lua/api/lua_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* ---------------------------------------------------------------- results */

static void hook_result_free(struct lua_hook_result *a)
{
    event_list_clear(&a->events);
    free(a->first);
    verdict_draft_clear(&a->draft);
    free(a);
}

static void result_deliver(struct task *t)
{
    struct lua_hook_result *a = container_of(t, struct lua_hook_result, task);
    if (a->on_verdict) {
        a->on_verdict(a->ctx, a->token, &a->draft.v);
    } else {
        a->on_publish(a->ctx, a->token, &a->draft.v, &a->events, a->first);
    }
    hook_result_free(a);
}

/* `limits` is borrowed until the result is sent. */
static struct lua_hook_result *hook_result_new(const struct policy_limits *limits, void *ctx,
                                               uint64_t token)
{
    struct lua_hook_result *a = xcalloc(1, sizeof *a);
    task_init(&a->task, result_deliver);
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

/* ---------------------------------------------------------------- hooks, in the coroutine */

/* Index 1 of the coroutine's stack is the job, which belongs to the call. A hook is called with a
 * continuation: when it has waited, that is where it comes back, and not behind the call. */

static struct lua_hook_call *hook_call_of(lua_State *L)
{
    return container_of(lua_touserdata(L, 1), struct lua_hook_call, job);
}

static void push_hook(lua_State *L, struct lua_hook_call *q, enum policy_hook hook)
{
    q->hook = hook;
    lua_vm_rename(L, &q->shared->budgets->hooks[hook]);
    lua_vm_push(L, q->shared->file->hooks[hook].ref);
}

/* Pushes a new copy of the identity, from the canonical text: a hook cannot change the original. */
static void push_identity(lua_State *L, struct slice identity)
{
    struct lua_json_error why;
    if (identity.n == 0 || slice_is(identity, "{}")) { /* as without an authenticate hook */
        lua_newtable(L);
    } else if (lua_json_decode(L, identity, &why) != LUA_JSON_OK) {
        luaL_error(L, "the identity cannot be read: %s", why.text);
    }
}

/* ---- authenticate, before subscribe and publish */

static int subscribe(lua_State *L, struct lua_hook_call *q);
static int publish(lua_State *L, struct lua_hook_call *q);

/* stack: job, request; the draft has the identity */
static int authenticated(lua_State *L, struct lua_hook_call *q)
{
    if (q->only) {
        q->result->draft.v.kind = VERDICT_ALLOW;
        return 0;
    }
    if (!q->result->on_verdict) {
        return publish(L, q);
    }
    lua_request_strip(L, 2);
    return subscribe(L, q);
}

/* auth = "open": anybody, about whom nothing is known. No hook will see the whole request, and
 * publish none at all. */
static int allow_anonymous(lua_State *L, struct lua_hook_call *q)
{
    const struct policy_request *rq = q->rq;
    q->rq = NULL;
    if (strbuf_append_str(&q->result->draft.identity, "{}")) {
        return luaL_error(L, "not enough memory");
    }
    if (q->only) {
        return authenticated(L, q);
    }
    if (!q->result->on_verdict) {
        lua_pushnil(L);
        return publish(L, q);
    }
    lua_request_push_saved(L, rq);
    return subscribe(L, q);
}

/* stack: job, request, identity, denial */
static int after_authenticate(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_hook_call *q = hook_call_of(L);
    (void)status;
    (void)ctx;
    if (!lua_verdict_granted(L, "authenticate", &q->result->draft)) {
        return 0;
    }
    lua_verdict_identity(L, 3, &q->result->draft);
    lua_settop(L, 2);
    return authenticated(L, q);
}

/* `tidegate eval` asserts an identity: no credentials are checked. */
static int impersonate(lua_State *L, struct lua_hook_call *q)
{
    struct slice who = q->rq->who;
    lua_request_push(L, q->rq); /* stack: job, request */
    q->rq = NULL;
    push_identity(L, who);
    lua_verdict_identity(L, 3, &q->result->draft);
    lua_pop(L, 1);
    return authenticated(L, q);
}

static int authenticate(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    if (q->rq->who.p) {
        return impersonate(L, q);
    }
    if (!lua_policy_file_has(q->shared->file, POLICY_HOOK_AUTHENTICATE)) {
        return allow_anonymous(L, q);
    }
    lua_request_push(L, q->rq); /* stack: job, request */
    q->rq = NULL;
    push_hook(L, q, POLICY_HOOK_AUTHENTICATE);
    lua_pushvalue(L, 2);
    lua_callk(L, 1, 2, 0, after_authenticate);
    return after_authenticate(L, LUA_OK, 0);
}

/* ---- subscribe */

/* stack: job, request, subscription, denial */
static int after_subscribe(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_hook_call *q = hook_call_of(L);
    struct verdict_draft *d = &q->result->draft;
    (void)status;
    (void)ctx;
    if (lua_verdict_granted(L, "subscribe", d)) {
        lua_verdict_subscription(L, 3, q->shared->file, d);
        d->v.kind = VERDICT_ALLOW;
    }
    return 0;
}

static int subscribe(lua_State *L, struct lua_hook_call *q)
{
    push_hook(L, q, POLICY_HOOK_SUBSCRIBE);
    lua_pushvalue(L, 2);
    push_identity(L, strbuf_slice(&q->result->draft.identity));
    lua_callk(L, 2, 2, 0, after_subscribe);
    return after_subscribe(L, LUA_OK, 0);
}

/* authenticate was asked before: what it said is known */
static int resubscribe(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    if (strbuf_append(&q->result->draft.identity, q->identity.p, q->identity.n)) {
        return luaL_error(L, "not enough memory");
    }
    lua_request_push_saved(L, q->rq);
    q->rq = NULL;
    q->identity = slice_of(NULL, 0);
    return subscribe(L, q);
}

/* ---- publish */

/* A batch is all or none; the reason says which of its events was in the way. */
static void name_envelope(lua_State *L, struct lua_hook_call *q)
{
    char text[DENY_REASON_MAX_BYTES + 512];
    struct strbuf *reason = &q->result->draft.reason;
    if (q->asked.n > 1) {
        int n =
            snprintf(text, sizeof text, "event %zu: %s", q->at, reason->len ? reason->data : "");
        strbuf_reset(reason);
        if (n < 0 || strbuf_append(reason, text, strnlen(text, sizeof text))) {
            luaL_error(L, "not enough memory");
        }
    }
}

/* stack: job, request or nil, who, publication, denial. False: that was the verdict. */
static bool take_publication(lua_State *L, struct lua_hook_call *q)
{
    if (!lua_verdict_granted(L, "publish", &q->result->draft)) {
        name_envelope(L, q);
        return false;
    }
    q->result->first[q->at] = q->out.events.n;
    lua_publication_read(L, 4, q->asked.v[q->at], &q->out);
    lua_settop(L, 3);
    q->at++;
    return true;
}

/* stack: job, request or nil, who; behind a hook that has waited (`status`), what it returned */
static int publish_each(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_hook_call *q = hook_call_of(L);
    bool more = status != LUA_YIELD || take_publication(L, q);
    while (more && q->at < q->asked.n) {
        push_hook(L, q, POLICY_HOOK_PUBLISH);
        lua_publication_push(L, q->asked.v[q->at]);
        lua_pushvalue(L, 3);
        lua_callk(L, 2, 2, ctx, publish_each);
        more = take_publication(L, q);
    }
    if (more) {
        q->result->draft.v.kind = VERDICT_ALLOW;
    }
    return 0;
}

static size_t data_bytes(const struct event_list *events)
{
    size_t n = 0;
    for (size_t i = 0; i < events->n; i++) {
        n += event_data(events->v[i]).n;
    }
    return n;
}

/* The client may publish, so its body is read now, which is no work of authenticate. False: it was
 * refused. */
static bool take_events(lua_State *L, struct lua_hook_call *q)
{
    struct lua_hook_result *a = q->result;
    if (q->events) {
        lua_vm_allow(L, lua_budgets_batch(q->shared->budgets, 1, q->body_bytes));
    }
    int status = q->events ? q->events(a->ctx, a->token, &q->asked) : 0;
    if (status) {
        a->draft.v.kind = VERDICT_DENY;
        a->draft.v.status = status;
        return false;
    }
    a->first = xcalloc(q->asked.n, sizeof *a->first);
    return true;
}

static int publish(lua_State *L, struct lua_hook_call *q)
{
    push_identity(L, strbuf_slice(&q->result->draft.identity));
    if (!take_events(L, q)) {
        return 0;
    }
    lua_vm_allow(L, lua_budgets_batch(q->shared->budgets, q->asked.n, data_bytes(&q->asked)));
    return publish_each(L, LUA_OK, 0);
}

/* authenticate was asked when the head of the request was there */
static int publish_known(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    if (strbuf_append(&q->result->draft.identity, q->identity.p, q->identity.n)) {
        return luaL_error(L, "not enough memory");
    }
    q->rq = NULL;
    q->identity = slice_of(NULL, 0);
    lua_pushnil(L);
    return publish(L, q);
}

/* ---- disconnect, setup */

static int returned(lua_State *L, int status, lua_KContext ctx)
{
    (void)L;
    (void)status;
    (void)ctx;
    return 0;
}

static int disconnect(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    push_hook(L, q, POLICY_HOOK_DISCONNECT);
    push_identity(L, q->identity);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, close_reason_name(q->info->reason));
    lua_setfield(L, -2, "reason");
    lua_pushnumber(L, q->info->seconds);
    lua_setfield(L, -2, "seconds");
    lua_pushinteger(L, (lua_Integer)q->info->delivered);
    lua_setfield(L, -2, "delivered");
    q->identity = slice_of(NULL, 0);
    q->info = NULL;
    lua_callk(L, 2, 0, 0, returned);
    return 0;
}

static int setup(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    push_hook(L, q, POLICY_HOOK_SETUP);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, q->version);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, q->previous); /* NULL: nil */
    lua_setfield(L, -2, "previous");
    lua_callk(L, 1, 0, 0, returned);
    return 0;
}

/* ---------------------------------------------------------------- calls, from the loop */

static void hook_call_free(struct lua_hook_call *q)
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

static void prepared(struct lua_hook_call *q, int rc, const struct err *e)
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

static void hook_call_on_done(struct lua_job *job, int rc, const struct err *e)
{
    struct lua_hook_call *q = container_of(job, struct lua_hook_call, job);
    const struct lua_hooks *s = q->shared;
    struct lua_hook_result *a = q->result;
    if (rc != UV_ECANCELED) {
        s->settled(s->ctx, q, rc, e);
    }
    if (q->ready) {
        prepared(q, rc, e);
        return;
    }
    if (a && rc == UV_ECANCELED && !s->closing) {
        hook_result_free(a);
    } else if (a) {
        if (rc) {
            verdict_draft_fail(&a->draft, reason_of(rc));
            a->draft.v.failed = is_error(rc);
        }
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
    q->request = rq->id;
    q->hook = !given && lua_policy_file_has(q->shared->file, POLICY_HOOK_AUTHENTICATE)
                  ? POLICY_HOOK_AUTHENTICATE
                  : q->hook;
    q->job.token = q->result->token;
    bool background = known && q->result->on_verdict;
    q->job.background = background; /* the broker asks by itself: clients who wait come first */
    q->job.owner = background ? (struct peer_address){{0}} : rq->client; /* as a Unix socket's */
    lua_coro_start(q->shared->coros, &q->job);
}

void lua_hooks_subscribe(const struct lua_hooks *s, const struct policy_request *rq,
                         policy_verdict_cb cb, void *ctx, uint64_t token)
{
    struct lua_hook_call *q =
        hook_call_new(s, authenticate, POLICY_HOOK_SUBSCRIBE, s->subscribe_timeout_ms);
    q->result = hook_result_new(s->limits, ctx, token);
    q->result->on_verdict = cb;
    hook_call_ask(q, rq);
}

void lua_hooks_resubscribe(const struct lua_hooks *s, const struct policy_request *rq,
                           struct slice identity, policy_verdict_cb cb, void *ctx, uint64_t token)
{
    struct lua_hook_call *q =
        hook_call_new(s, resubscribe, POLICY_HOOK_SUBSCRIBE, s->subscribe_timeout_ms);
    q->identity = identity;
    q->result = hook_result_new(s->limits, ctx, token);
    q->result->on_verdict = cb;
    hook_call_ask(q, rq);
}

void lua_hooks_setup(const struct lua_hooks *s, const char *version, const char *previous,
                     policy_ready_cb cb, void *ctx)
{
    struct lua_hook_call *q = hook_call_new(s, setup, POLICY_HOOK_SETUP, POLICY_SETUP_TIMEOUT_MS);
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

static void refuse_publish(struct lua_hook_result *a, struct loop *loop)
{
    static const char reason[] = "this policy accepts no publishes";
    a->draft.v.kind = VERDICT_DENY;
    a->draft.v.status = 403;
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
        refuse_publish(a, s->loop);
        return;
    }
    struct lua_hook_call *q =
        hook_call_new(s, authenticate, POLICY_HOOK_AUTHENTICATE, s->publish_timeout_ms);
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
        refuse_publish(a, s->loop);
        return;
    }
    struct lua_hook_call *q = hook_call_new(s, rq->identity.p ? publish_known : authenticate,
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
        hook_call_new(s, disconnect, POLICY_HOOK_DISCONNECT, s->subscribe_timeout_ms);
    q->identity = identity;
    q->info = info;
    q->job.background = true;
    lua_coro_start(s->coros, &q->job);
}

/* ---------------------------------------------------------------- reload, which cannot wait */

struct reload_call {
    const struct lua_policy_file *file;
    const char *previous;
    enum reload_mode mode;
};

static int reload_body(lua_State *L)
{
    static const char *const names[] = {"resubscribe", "keep", "reconnect", NULL};
    struct reload_call *q = lua_touserdata(L, 1);
    lua_vm_push(L, q->file->hooks[POLICY_HOOK_RELOAD].ref);
    lua_pushstring(L, q->previous);
    lua_call(L, 1, 1);
    bool text = lua_type(L, -1) == LUA_TSTRING;
    for (int i = 0; text && names[i]; i++) {
        if (strcmp(lua_tostring(L, -1), names[i]) == 0) {
            q->mode = (enum reload_mode)i;
            return 0;
        }
    }
    return luaL_error(L,
                      "reload returned %s: \"resubscribe\", \"keep\" or \"reconnect\" was expected",
                      text ? lua_tostring(L, -1) : luaL_typename(L, -1));
}

int lua_hooks_reload(struct lua_vm *vm, const struct lua_budgets *budgets,
                     const struct lua_policy_file *f, const char *previous, enum reload_mode *out,
                     struct err *e)
{
    struct reload_call q = {.file = f, .previous = previous, .mode = RELOAD_RESUBSCRIBE};
    int rc = 0;
    if (lua_policy_file_has(f, POLICY_HOOK_RELOAD)) {
        struct lua_allowance allowed = lua_budget_allow(&budgets->hooks[POLICY_HOOK_RELOAD], 0);
        rc = lua_vm_run(vm, allowed, reload_body, &q, e);
    }
    *out = q.mode;
    return rc;
}
