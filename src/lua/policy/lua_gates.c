/* Index 1 of the coroutine's stack is the job, whose question has everything else. A hook is called
 * with a continuation: when it has waited, that is where it comes back, and not behind the call. */
#include "lua/policy/lua_gates.h"

#include "lua/api/lua_api.h"
#include "lua/api/lua_json.h"
#include "lua/api/lua_request.h"
#include "lua/policy/lua_question.h"

#include <stdio.h>

static struct lua_question *question_of(lua_State *L)
{
    return container_of(lua_touserdata(L, 1), struct lua_question, job);
}

static void push_hook(lua_State *L, struct lua_question *q, enum policy_hook hook)
{
    q->hook = hook;
    lua_vm_rename(L, &q->shared->budgets->hooks[hook]);
    lua_vm_push(L, q->shared->file->hooks[hook].ref);
}

/* Pushes the identity anew, from the canonical text: what a hook does to its copy stays there. */
static void push_identity(lua_State *L, struct slice identity)
{
    struct lua_json_error why;
    if (identity.n == 0 || slice_is(identity, "{}")) { /* as everybody's where none is asked for */
        lua_newtable(L);
    } else if (lua_json_decode(L, identity, &why) != LUA_JSON_OK) {
        luaL_error(L, "the identity cannot be read: %s", why.text);
    }
}

/* ---- authenticate, before subscribe and publish */

static int subscribe(lua_State *L, struct lua_question *q);
static int publish(lua_State *L, struct lua_question *q);

/* stack: job, request; the draft has the identity */
static int authenticated(lua_State *L, struct lua_question *q)
{
    if (!q->answer->on_subscribe) {
        return publish(L, q);
    }
    lua_request_strip(L, 2);
    return subscribe(L, q);
}

/* auth = "open": anybody, about whom nothing is known. No hook will see the whole request, and
 * publish none at all. */
static int let_in(lua_State *L, struct lua_question *q)
{
    const struct policy_request *rq = q->rq;
    q->rq = NULL;
    if (strbuf_append_str(&q->answer->draft.identity, "{}")) {
        return luaL_error(L, "not enough memory");
    }
    if (!q->answer->on_subscribe) {
        lua_pushnil(L);
        return publish(L, q);
    }
    lua_request_push_kept(L, rq);
    return subscribe(L, q);
}

/* stack: job, request, identity, denial */
static int after_authenticate(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_question *q = question_of(L);
    (void)status;
    (void)ctx;
    if (!lua_verdict_granted(L, "authenticate", &q->answer->draft)) {
        return 0;
    }
    lua_verdict_identity(L, 3, &q->answer->draft);
    lua_settop(L, 2);
    return authenticated(L, q);
}

/* Somebody said who it is, and is believed: a tool, not a client. */
static int be(lua_State *L, struct lua_question *q)
{
    struct slice who = q->rq->who;
    lua_request_push(L, q->rq); /* stack: job, request */
    q->rq = NULL;
    push_identity(L, who);
    lua_verdict_identity(L, 3, &q->answer->draft);
    lua_pop(L, 1);
    return authenticated(L, q);
}

static int authenticate(lua_State *L)
{
    struct lua_question *q = question_of(L);
    if (q->rq->who.p) {
        return be(L, q);
    }
    if (!lua_policy_file_has(q->shared->file, POLICY_HOOK_AUTHENTICATE)) {
        return let_in(L, q);
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
    struct lua_question *q = question_of(L);
    struct verdict_draft *d = &q->answer->draft;
    (void)status;
    (void)ctx;
    if (lua_verdict_granted(L, "subscribe", d)) {
        lua_verdict_subscription(L, 3, q->shared->file, d);
        d->v.kind = VERDICT_ALLOW;
    }
    return 0;
}

static int subscribe(lua_State *L, struct lua_question *q)
{
    push_hook(L, q, POLICY_HOOK_SUBSCRIBE);
    lua_pushvalue(L, 2);
    push_identity(L, strbuf_slice(&q->answer->draft.identity));
    lua_callk(L, 2, 2, 0, after_subscribe);
    return after_subscribe(L, LUA_OK, 0);
}

int lua_gate_subscribe(lua_State *L)
{
    return authenticate(L);
}

/* authenticate was asked before: what it said is known */
int lua_gate_resubscribe(lua_State *L)
{
    struct lua_question *q = question_of(L);
    if (strbuf_append(&q->answer->draft.identity, q->identity.p, q->identity.n)) {
        return luaL_error(L, "not enough memory");
    }
    lua_request_push_kept(L, q->rq);
    q->rq = NULL;
    q->identity = slice_of(NULL, 0);
    return subscribe(L, q);
}

/* ---- publish */

/* A batch is all or none; the reason says which of its events was in the way. */
static void name_envelope(lua_State *L, struct lua_question *q)
{
    char text[DENY_REASON_MAX_BYTES + 512];
    struct strbuf *reason = &q->answer->draft.reason;
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
static bool take_publication(lua_State *L, struct lua_question *q)
{
    if (!lua_verdict_granted(L, "publish", &q->answer->draft)) {
        name_envelope(L, q);
        return false;
    }
    q->answer->first[q->at] = q->out.events.n;
    lua_publication_read(L, 4, q->asked.v[q->at], &q->out);
    lua_settop(L, 3);
    q->at++;
    return true;
}

static int publish_rest(lua_State *L, struct lua_question *q);

static int after_publish(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_question *q = question_of(L);
    (void)status;
    (void)ctx;
    return take_publication(L, q) ? publish_rest(L, q) : 0;
}

/* stack: job, request or nil, who */
static int publish_rest(lua_State *L, struct lua_question *q)
{
    while (q->at < q->asked.n) {
        push_hook(L, q, POLICY_HOOK_PUBLISH);
        lua_publication_push(L, q->asked.v[q->at]);
        lua_pushvalue(L, 3);
        lua_callk(L, 2, 2, 0, after_publish);
        if (!take_publication(L, q)) {
            return 0;
        }
    }
    q->answer->draft.v.kind = VERDICT_ALLOW;
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

static int publish(lua_State *L, struct lua_question *q)
{
    push_identity(L, strbuf_slice(&q->answer->draft.identity));
    lua_vm_allow(L, lua_budgets_batch(q->shared->budgets, q->asked.n, data_bytes(&q->asked)));
    return publish_rest(L, q);
}

int lua_gate_publish(lua_State *L)
{
    return authenticate(L);
}

/* ---- disconnect, setup */

static int returned(lua_State *L, int status, lua_KContext ctx)
{
    (void)L;
    (void)status;
    (void)ctx;
    return 0;
}

int lua_gate_disconnect(lua_State *L)
{
    struct lua_question *q = question_of(L);
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

int lua_gate_setup(lua_State *L)
{
    struct lua_question *q = question_of(L);
    push_hook(L, q, POLICY_HOOK_SETUP);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, q->version);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, q->previous); /* NULL: nil */
    lua_setfield(L, -2, "previous");
    lua_callk(L, 1, 0, 0, returned);
    return 0;
}
