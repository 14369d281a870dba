/* authenticate, which comes before subscribe and publish, and what stands in for it. */
#include "lua/api/lua_request.h"
#include "lua/hooks/hook_call.h"

/* stack: job, request; the draft has the identity */
static int hook_authenticated(lua_State *L, struct lua_hook_call *q)
{
    if (q->only) {
        q->result->draft.v.kind = VERDICT_ALLOW;
        return 0;
    }
    if (!q->result->on_verdict) {
        return hook_publish(L, q);
    }
    lua_request_strip(L, 2);
    return hook_subscribe(L, q);
}

/* auth = "open": anybody, about whom nothing is known. No hook will see the whole request, and
 * publish none at all. */
static int hook_allow_anonymous(lua_State *L, struct lua_hook_call *q)
{
    const struct policy_request *rq = q->rq;
    q->rq = NULL;
    if (strbuf_append_str(&q->result->draft.identity, "{}")) {
        return luaL_error(L, "not enough memory");
    }
    if (q->only) {
        return hook_authenticated(L, q);
    }
    if (!q->result->on_verdict) {
        lua_pushnil(L);
        return hook_publish(L, q);
    }
    lua_request_push_saved(L, rq);
    return hook_subscribe(L, q);
}

/* stack: job, request, identity, denial */
static int hook_after_authenticate(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_hook_call *q = hook_call_of(L);
    (void)status;
    (void)ctx;
    hook_popped(L, q);
    if (!lua_verdict_granted(L, "authenticate", &q->result->draft)) {
        return 0;
    }
    lua_verdict_identity(L, 3, &q->result->draft);
    lua_settop(L, 2);
    return hook_authenticated(L, q);
}

/* `tidegate eval` asserts an identity: no credentials are checked. */
static int hook_impersonate(lua_State *L, struct lua_hook_call *q)
{
    struct slice who = q->rq->who;
    lua_request_push(L, q->rq); /* stack: job, request */
    q->rq = NULL;
    hook_push_identity(L, who);
    lua_verdict_identity(L, 3, &q->result->draft);
    lua_pop(L, 1);
    return hook_authenticated(L, q);
}

int hook_authenticate(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    if (q->rq->who.p) {
        return hook_impersonate(L, q);
    }
    if (!lua_policy_file_has(q->shared->file, POLICY_HOOK_AUTHENTICATE)) {
        return hook_allow_anonymous(L, q);
    }
    lua_request_push(L, q->rq); /* stack: job, request */
    q->rq = NULL;
    hook_push(L, q, POLICY_HOOK_AUTHENTICATE);
    lua_pushvalue(L, 2);
    lua_callk(L, 1, 2, 0, hook_after_authenticate);
    return hook_after_authenticate(L, LUA_OK, 0);
}
