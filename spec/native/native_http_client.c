/* net/http_client: drives a client with a loop of its own. */
#include "base/require.h"
#include "native.h"
#include "net/client/http_client.h"

#include <stdlib.h>

#define CLIENT_TYPE "native.http_client"

enum { HEADERS_MAX = 16, IDS_MAX = 4096 };

struct driver {
    struct loop *loop;
    struct http_client *client; /* NULL: closed */
    struct net_metrics metrics;
    lua_State *L; /* of the running call */
    int completions;
    uint64_t tokens, ids[IDS_MAX];
    bool closed, starting;
    uint64_t cancel_next; /* token to be cancelled from inside the next completion */
};

static struct slice field(lua_State *L, int at, const char *name)
{
    size_t n = 0;
    lua_getfield(L, at, name);
    const char *p = lua_tolstring(L, -1, &n);
    lua_pop(L, 1); /* the table still holds it */
    return slice_of(p, n);
}

static lua_Integer integer_field(lua_State *L, int at, const char *name, lua_Integer missing)
{
    lua_getfield(L, at, name);
    lua_Integer n = luaL_optinteger(L, -1, missing);
    lua_pop(L, 1);
    return n;
}

static void set_slice(lua_State *L, const char *name, struct slice s)
{
    if (s.p) {
        lua_pushlstring(L, s.p, s.n);
        lua_setfield(L, -2, name);
    }
}

static void set_integer(lua_State *L, const char *name, lua_Integer n)
{
    lua_pushinteger(L, n);
    lua_setfield(L, -2, name);
}

static void on_done(void *ctx, uint64_t token, const struct http_client_response *res,
                    const struct err *e)
{
    struct driver *d = ctx;
    lua_State *L = d->L;
    REQUIRE(!d->starting && (res == NULL) != (e == NULL));
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->completions);
    lua_createtable(L, 0, 8);
    set_integer(L, "token", (lua_Integer)token);
    if (res) {
        set_integer(L, "status", res->status);
        set_slice(L, "body", res->body);
        set_slice(L, "test", http_client_header(res, "x-test"));
    } else {
        lua_pushstring(L, uv_err_name(e->code));
        lua_setfield(L, -2, "error");
        lua_pushstring(L, e->text);
        lua_setfield(L, -2, "text");
    }
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
    if (d->cancel_next) {
        http_client_cancel(d->client, d->ids[d->cancel_next]);
        d->cancel_next = 0;
    }
}

static struct driver *check(lua_State *L)
{
    struct driver *d = luaL_checkudata(L, 1, CLIENT_TYPE);
    d->L = L;
    luaL_checkstack(L, 20, NULL);
    return d;
}

/* { { name, value }, ... } */
static size_t read_headers(lua_State *L, int at, struct http_client_header *out)
{
    size_t n = 0;
    lua_getfield(L, at, "headers");
    for (lua_Integer i = 1; lua_istable(L, -1) && n < HEADERS_MAX; i++) {
        if (lua_rawgeti(L, -1, i) != LUA_TTABLE) {
            lua_pop(L, 1);
            break;
        }
        lua_rawgeti(L, -1, 1);
        out[n].name.p = luaL_checklstring(L, -1, &out[n].name.n);
        lua_rawgeti(L, -2, 2);
        out[n].value.p = luaL_checklstring(L, -1, &out[n].value.n);
        n++;
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
    return n;
}

/* start{url=, post=, headers=, body=, timeout_ms=, max_response_bytes=, ca_file=}
 *   -> token | nil, code, text */
static int l_start(lua_State *L)
{
    struct driver *d = check(L);
    struct http_client_header headers[HEADERS_MAX];
    struct err e = {0};
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_argcheck(L, d->client != NULL, 1, "is closed");
    luaL_argcheck(L, d->tokens + 1 < IDS_MAX, 1, "too many requests");
    struct http_client_request rq = {
        .url = field(L, 2, "url").p,
        .headers = headers,
        .header_count = read_headers(L, 2, headers),
        .body = field(L, 2, "body"),
        .timeout_ms = (unsigned)integer_field(L, 2, "timeout_ms", 10000),
        .max_response_bytes = (size_t)integer_field(L, 2, "max_response_bytes", 100000),
        .ca_file = field(L, 2, "ca_file").p};
    lua_getfield(L, 2, "post");
    rq.post = lua_toboolean(L, -1);
    uint64_t token = ++d->tokens;
    d->starting = true;
    int rc = http_client_start(d->client, &rq, on_done, d, token, &d->ids[token], &e);
    d->starting = false;
    if (rc) {
        lua_pushnil(L);
        lua_pushstring(L, uv_err_name(rc));
        lua_pushstring(L, e.text);
        return 3;
    }
    lua_pushinteger(L, (lua_Integer)token);
    return 1;
}

static int l_cancel(lua_State *L)
{
    struct driver *d = check(L);
    http_client_cancel(d->client, d->ids[luaL_checkinteger(L, 2)]);
    return 0;
}

static int l_cancel_next(lua_State *L)
{
    struct driver *d = check(L);
    d->cancel_next = (uint64_t)luaL_checkinteger(L, 2);
    return 0;
}

/* turn() -> list of all completions so far: { token, status, body, test } or { token, error, text }
 */
static int l_turn(lua_State *L)
{
    struct driver *d = check(L);
    if (d->loop) {
        uv_run(loop_uv(d->loop), UV_RUN_NOWAIT);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->completions);
    return 1;
}

static int l_metric(lua_State *L)
{
    struct driver *d = check(L);
    const char *name = luaL_checkstring(L, 2);
#define X(member, kind, metric, help)                                                              \
    if (strcmp(name, #member) == 0) {                                                              \
        lua_pushinteger(L, (lua_Integer)d->metrics.member);                                        \
        return 1;                                                                                  \
    }
    NET_METRICS(X)
#undef X
    return luaL_argerror(L, 2, "no such metric");
}

static void on_closed(void *ctx)
{
    struct driver *d = ctx;
    d->closed = true;
}

/* close() -> handles left open */
static int l_close(lua_State *L)
{
    struct driver *d = check(L);
    unsigned left = 0;
    if (d->client) {
        http_client_close(d->client, on_closed, d);
        loop_run(d->loop);
        REQUIRE(d->closed);
        http_client_free(d->client);
        d->client = NULL;
        left = loop_free(d->loop);
        d->loop = NULL;
    }
    lua_pushinteger(L, left);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct driver *d = check(L);
    (void)l_close(L);
    luaL_unref(L, LUA_REGISTRYINDEX, d->completions);
    return 0;
}

/* new{max_active=, max_queued=, max_idle=} */
static int l_new(lua_State *L)
{
    struct err e = {0};
    lua_settop(L, 1);
    luaL_checktype(L, 1, LUA_TTABLE);
    struct http_client_options opt = {.max_active = (unsigned)integer_field(L, 1, "max_active", 8),
                                      .max_queued = (unsigned)integer_field(L, 1, "max_queued", 8),
                                      .max_idle = (unsigned)integer_field(L, 1, "max_idle", 4)};
    struct driver *d = lua_newuserdatauv(L, sizeof *d, 0);
    *d = (struct driver){.closed = false};
    lua_createtable(L, 0, 0);
    d->completions = luaL_ref(L, LUA_REGISTRYINDEX);
    d->loop = loop_new();
    d->client = http_client_new(d->loop, &opt, &d->metrics, &e);
    if (!d->client) {
        return luaL_error(L, "%s", e.text);
    }
    luaL_setmetatable(L, CLIENT_TYPE);
    return 1;
}

static int l_check_url(lua_State *L)
{
    struct err e = {0};
    if (http_client_check_url(luaL_checkstring(L, 1), &e) == 0) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, e.text);
    return 2;
}

int native_open_http_client(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"start", l_start}, {"cancel", l_cancel}, {"cancel_next", l_cancel_next},
        {"turn", l_turn},   {"metric", l_metric}, {"close", l_close},
        {"__gc", l_gc},     {NULL, NULL}};
    static const luaL_Reg functions[] = {{"new", l_new}, {"check_url", l_check_url}, {NULL, NULL}};
    native_class(L, CLIENT_TYPE, methods);
    luaL_newlib(L, functions);
    return 1;
}
