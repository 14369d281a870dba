#include "lua/lua_gates.h"

#include "lua/lua_api.h"
#include "lua/lua_json.h"
#include "lua/lua_request.h"

#include <stdio.h>

struct question {
    struct gate *g;
    struct verdict_draft *d;
    const struct event_list *asked;
    struct publication_out *out;
    size_t *first;
};

static void push_hook(lua_State *L, struct gate *g, enum policy_hook hook)
{
    g->hook = hook;
    lua_vm_push(L, g->file->hooks[hook].ref);
}

/* Pushes the identity anew, from the canonical text: what a hook does to its copy stays there. */
static void push_identity(lua_State *L, struct slice identity)
{
    struct lua_json_error why;
    if (identity.n == 0) {
        lua_newtable(L);
    } else if (lua_json_decode(L, identity, &why) != LUA_JSON_OK) {
        luaL_error(L, "the identity cannot be read: %s", why.text);
    }
}

/* stack: ud, request. True: known, `d` has the identity. */
static bool authenticate(lua_State *L, struct question *q)
{
    if (!lua_policy_file_has(q->g->file, POLICY_HOOK_AUTHENTICATE)) {
        lua_newtable(L); /* auth = "open": anybody, about whom nothing is known */
        lua_verdict_identity(L, 3, q->d);
        lua_pop(L, 1);
        return true;
    }
    push_hook(L, q->g, POLICY_HOOK_AUTHENTICATE);
    lua_pushvalue(L, 2);
    lua_call(L, 1, 2); /* stack: ud, request, identity, denial */
    if (!lua_verdict_granted(L, "authenticate", q->d)) {
        return false;
    }
    lua_verdict_identity(L, 3, q->d);
    lua_settop(L, 2);
    return true;
}

static int subscribe_body(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    lua_request_push(L, q->g->rq); /* stack: ud, request */
    if (!authenticate(L, q)) {
        return 0;
    }
    push_hook(L, q->g, POLICY_HOOK_SUBSCRIBE);
    lua_pushvalue(L, 2);
    push_identity(L, strbuf_slice(&q->d->identity));
    lua_call(L, 2, 2); /* stack: ud, request, subscription, denial */
    if (lua_verdict_granted(L, "subscribe", q->d)) {
        lua_verdict_subscription(L, 3, q->g->file, q->d);
        q->d->v.kind = VERDICT_ALLOW;
    }
    return 0;
}

int lua_gate_subscribe(struct gate *g, struct verdict_draft *d, struct err *e)
{
    struct question q = {.g = g, .d = d};
    return lua_vm_call(g->vm, subscribe_body, &q, e);
}

/* A batch is all or none; the reason says which of its events was in the way. */
static void name_envelope(lua_State *L, struct question *q, size_t i)
{
    char text[DENY_REASON_MAX_BYTES + 512];
    struct strbuf *reason = &q->d->reason;
    if (q->asked->n > 1) {
        int n = snprintf(text, sizeof text, "event %zu: %s", i, reason->len ? reason->data : "");
        strbuf_reset(reason);
        if (n < 0 || strbuf_append(reason, text, strnlen(text, sizeof text))) {
            luaL_error(L, "not enough memory");
        }
    }
}

static int publish_body(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    lua_request_push(L, q->g->rq); /* stack: ud, request */
    if (!authenticate(L, q)) {
        return 0;
    }
    push_identity(L, strbuf_slice(&q->d->identity)); /* stack: ud, request, who */
    for (size_t i = 0; i < q->asked->n; i++) {
        push_hook(L, q->g, POLICY_HOOK_PUBLISH);
        lua_publication_push(L, q->asked->v[i]);
        lua_pushvalue(L, 3);
        lua_call(L, 2, 2); /* stack: ud, request, who, publication, denial */
        if (!lua_verdict_granted(L, "publish", q->d)) {
            name_envelope(L, q, i);
            return 0;
        }
        q->first[i] = q->out->events.n;
        lua_publication_read(L, 4, q->asked->v[i], q->out);
        lua_settop(L, 3);
    }
    q->d->v.kind = VERDICT_ALLOW;
    return 0;
}

int lua_gate_publish(struct gate *g, const struct event_list *asked, struct verdict_draft *d,
                     struct publication_out *out, size_t *first, struct err *e)
{
    struct question q = {.g = g, .d = d, .asked = asked, .out = out, .first = first};
    return lua_vm_call(g->vm, publish_body, &q, e);
}

struct farewell {
    struct gate *g;
    struct slice identity;
    const struct disconnect_info *info;
};

static int disconnect_body(lua_State *L)
{
    const struct farewell *f = lua_touserdata(L, 1);
    push_hook(L, f->g, POLICY_HOOK_DISCONNECT);
    push_identity(L, f->identity);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, close_reason_name(f->info->reason));
    lua_setfield(L, -2, "reason");
    lua_pushnumber(L, f->info->seconds);
    lua_setfield(L, -2, "seconds");
    lua_pushinteger(L, (lua_Integer)f->info->delivered);
    lua_setfield(L, -2, "delivered");
    lua_call(L, 2, 0);
    return 0;
}

int lua_gate_disconnect(struct gate *g, struct slice identity, const struct disconnect_info *info,
                        struct err *e)
{
    struct farewell f = {g, identity, info};
    return lua_vm_call(g->vm, disconnect_body, &f, e);
}
