/* subscribe, behind authenticate or for a stored request. The table it returns: lua_subscription.c. */
#include "lua/api/lua_json.h"
#include "lua/api/lua_request.h"
#include "lua/hooks/hook_call.h"

/* stack: job, request, subscription, denial */
static int hook_after_subscribe(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_hook_call *q = hook_call_of(L);
    struct verdict_draft *d = &q->result->draft;
    (void)status;
    (void)ctx;
    hook_popped(L, q);
    if (lua_verdict_stored(L, q->unanswered, d)) {
        d->v.kind = VERDICT_ALLOW;
    } else if (lua_verdict_granted(L, "subscribe", d)) {
        lua_verdict_subscription(L, 3, q->shared->file, d);
        d->v.kind = VERDICT_ALLOW;
    }
    return 0;
}

int hook_subscribe(lua_State *L, struct lua_hook_call *q)
{
    hook_push(L, q, POLICY_HOOK_SUBSCRIBE);
    lua_pushvalue(L, 2);
    hook_push_identity(L, strbuf_slice(&q->result->draft.identity));
    lua_callk(L, 2, 2, 0, hook_after_subscribe);
    return hook_after_subscribe(L, LUA_OK, 0);
}

/* stack: .., request */
static void hook_subscribe_set_published(lua_State *L, struct slice published)
{
    struct lua_json_error why;
    if (published.p) {
        lua_pushliteral(L, "published");
        if (lua_json_decode(L, published, &why) != LUA_JSON_OK) {
            luaL_error(L, "what the request publishes cannot be read: %s", why.text);
        }
        lua_rawset(L, -3);
    }
}

/* Authenticate was asked before: what it said is known. */
int hook_resubscribe(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    if (strbuf_append(&q->result->draft.identity, q->identity.p, q->identity.n)) {
        return luaL_error(L, "not enough memory");
    }
    lua_request_push_saved(L, q->rq);
    hook_subscribe_set_published(L, q->rq->published);
    q->rq = NULL;
    q->identity = slice_of(NULL, 0);
    return hook_subscribe(L, q);
}
