/* publish, once for each event of a body, which is read no sooner than here. The events as the hook
 * gets and returns them: lua_publication.c. */
#include "base/alloc.h"
#include "lua/api/lua_api.h"
#include "lua/hooks/hook_call.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

int hook_publish_name_event(struct lua_hook_call *q)
{
    char text[DENY_REASON_MAX_BYTES + 512];
    struct strbuf *reason = &q->result->draft.reason;
    if (q->asked.n > 1) {
        int n =
            snprintf(text, sizeof text, "event %zu: %s", q->at, reason->len ? reason->data : "");
        strbuf_reset(reason);
        if (n < 0 || strbuf_append(reason, text, strnlen(text, sizeof text))) {
            return UV_ENOMEM;
        }
    }
    return 0;
}

/* stack: job, request or nil, who, publication, denial. False: that was the verdict. */
static bool hook_publish_take(lua_State *L, struct lua_hook_call *q)
{
    hook_popped(L, q);
    struct slice why;
    if (lua_verdict_dropped(L, &why)) {
        q->result->made[q->at].dropped = xstrndup(why.p, why.n);
        lua_settop(L, 3);
        q->at++;
        return true;
    }
    if (!lua_verdict_granted(L, "publish", &q->result->draft)) {
        if (hook_publish_name_event(q)) {
            luaL_error(L, "not enough memory");
        }
        return false;
    }
    q->result->made[q->at].first = q->out.events.n;
    lua_publication_read(L, 4, q->asked.v[q->at], &q->out);
    lua_settop(L, 3);
    q->at++;
    return true;
}

/* stack: job, request or nil, who; behind a hook that has waited (`status`), what it returned */
static int hook_publish_each(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_hook_call *q = hook_call_of(L);
    bool more = status != LUA_YIELD || hook_publish_take(L, q);
    while (more && q->at < q->asked.n) {
        hook_push(L, q, POLICY_HOOK_PUBLISH);
        lua_publication_push(L, q->asked.v[q->at]);
        lua_pushvalue(L, 3);
        lua_callk(L, 2, 2, ctx, hook_publish_each);
        more = hook_publish_take(L, q);
    }
    if (more) {
        q->result->draft.v.kind = VERDICT_ALLOW;
    }
    return 0;
}

static size_t hook_publish_data_bytes(const struct event_list *events)
{
    size_t n = 0;
    for (size_t i = 0; i < events->n; i++) {
        n += event_data(events->v[i]).n;
    }
    return n;
}

/* The client may publish, so its body is read now, which is no work of authenticate. False: it was
 * refused. */
static bool hook_publish_take_body(lua_State *L, struct lua_hook_call *q)
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
    a->made = xcalloc(q->asked.n, sizeof *a->made);
    a->made_count = q->asked.n;
    return true;
}

int hook_publish(lua_State *L, struct lua_hook_call *q)
{
    hook_push_identity(L, strbuf_slice(&q->result->draft.identity));
    if (!hook_publish_take_body(L, q)) {
        return 0;
    }
    lua_vm_allow(
        L, lua_budgets_batch(q->shared->budgets, q->asked.n, hook_publish_data_bytes(&q->asked)));
    return hook_publish_each(L, LUA_OK, 0);
}

/* authenticate was asked when the head of the request was there */
int hook_publish_known(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    if (strbuf_append(&q->result->draft.identity, q->identity.p, q->identity.n)) {
        return luaL_error(L, "not enough memory");
    }
    q->rq = NULL;
    q->identity = slice_of(NULL, 0);
    lua_pushnil(L);
    return hook_publish(L, q);
}
