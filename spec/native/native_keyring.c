/* auth/keyring with a JWKS URL: on a loop of its own, which runs while a spec waits. */
#include "auth/keyring.h"
#include "native.h"

#include <stdlib.h>

static const char *const keyring_class = "native.keyring";

struct driver {
    struct loop *loop; /* NULL: closed */
    struct http_client *client;
    struct keyring *keyring;
    struct net_metrics net;
    struct auth_metrics metrics;
    uv_timer_t alive;
    bool closed; /* the client is */
};

static struct driver *check(lua_State *L)
{
    struct driver *d = luaL_checkudata(L, 1, keyring_class);
    luaL_argcheck(L, d->loop, 1, "closed");
    return d;
}

static void turn(struct driver *d)
{
    uv_run(loop_uv(d->loop), UV_RUN_NOWAIT);
}

static void on_alive(uv_timer_t *t)
{
    (void)t; /* its being active is the effect */
}

static void on_closed(void *ctx)
{
    ((struct driver *)ctx)->closed = true;
}

static int l_close(lua_State *L)
{
    struct driver *d = luaL_checkudata(L, 1, keyring_class);
    if (!d->loop) {
        return 0;
    }
    keyring_stop(d->keyring);
    http_client_close(d->client, on_closed, d);
    uv_close((uv_handle_t *)&d->alive, NULL);
    while (!d->closed) {
        turn(d);
    }
    turn(d);
    keyring_close(d->keyring);
    http_client_free(d->client);
    unsigned left = loop_free(d->loop);
    d->loop = NULL;
    return left ? luaL_error(L, "handles left open") : 0;
}

static unsigned number(lua_State *L, const char *name, lua_Integer absent)
{
    lua_getfield(L, 1, name);
    lua_Integer n = luaL_optinteger(L, -1, absent);
    lua_pop(L, 1);
    return (unsigned)n;
}

static void on_other(void *ctx, uint64_t token, const struct http_client_response *res,
                     const struct err *e)
{
    (void)ctx, (void)token, (void)res, (void)e;
}

/* Requests of somebody else to `url`, until the client takes no more. */
static void fill(struct driver *d, const char *url)
{
    const struct http_client_request rq = {
        .url = url, .timeout_ms = 60000, .max_response_bytes = 1000};
    struct err e;
    while (http_client_start(d->client, &rq, on_other, NULL, 0, NULL, &e) == 0) {
    }
}

/* open{ url =, refresh_s =, stale_s =, fresh_ms =, busy_with = }: a keyring with the set "main", on
 * a client that has all it can do with requests to another URL where `busy_with` is there. Logs
 * nothing. */
static int l_open(lua_State *L)
{
    struct err e = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "url");
    const struct keyset_options o = {.name = "main",
                                     .source = KEY_JWKS_URL,
                                     .where = luaL_checkstring(L, -1),
                                     .refresh_s = number(L, "refresh_s", 300),
                                     .stale_s = number(L, "stale_s", 3600),
                                     .fresh_ms = number(L, "fresh_ms", 30000)};
    const struct http_client_options http = {.max_active = 4, .max_queued = 4, .max_idle = 1};
    struct driver *d = lua_newuserdatauv(L, sizeof *d, 0);
    *d = (struct driver){.loop = loop_new()};
    luaL_setmetatable(L, keyring_class);
    d->client = http_client_new(d->loop, &http, &d->net, &e);
    if (!d->client || keyring_open(&d->keyring, &o, 1, 1 << 20, &e)) {
        return luaL_error(L, "%s", e.text);
    }
    uv_timer_init(loop_uv(d->loop), &d->alive);
    uv_timer_start(&d->alive, on_alive, 1000000, 1000000);
    turn(d);
    lua_getfield(L, 1, "busy_with");
    if (lua_isstring(L, -1)) {
        fill(d, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    keyring_start(d->keyring, d->loop, d->client, &d->metrics);
    return 1;
}

static int l_turn(lua_State *L)
{
    turn(check(L));
    return 0;
}

static int l_reload(lua_State *L)
{
    keyring_reload(check(L)->keyring);
    return 0;
}

/* k:verify(token, now) -> claims | nil, "bad" | "failed", why. EdDSA and HS256. */
static int l_verify(lua_State *L)
{
    struct driver *d = check(L);
    struct slice token;
    token.p = luaL_checklstring(L, 2, &token.n);
    const struct jwt_options o = {.algs = JWA_BIT(JWT_EdDSA) | JWA_BIT(JWT_HS256)};
    struct jwt out = {0};
    strbuf_init(&out.claims, JWT_MAX_BYTES);
    struct keyset *s = keyring_find(d->keyring, slice_str("main"));
    enum jwt_outcome outcome = keyset_verify(s, token, &o, luaL_checkinteger(L, 3), &out);
    if (outcome == JWT_OK) {
        lua_pushlstring(L, out.claims.data, out.claims.len);
        strbuf_clear(&out.claims);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, outcome == JWT_BAD ? "bad" : "failed");
    lua_pushstring(L, out.why);
    return 3;
}

static int l_metrics(lua_State *L)
{
    struct driver *d = check(L);
    lua_newtable(L);
#define X(m, kind, name, help)                                                                     \
    lua_pushinteger(L, (lua_Integer)d->metrics.m);                                                 \
    lua_setfield(L, -2, #m);
    AUTH_METRICS(X)
#undef X
    return 1;
}

int native_open_keyring(lua_State *L)
{
    static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"turn", l_turn},   {"reload", l_reload}, {"verify", l_verify}, {"metrics", l_metrics},
        {"close", l_close}, {"__gc", l_close},    {NULL, NULL}};
    native_class(L, keyring_class, methods);
    luaL_newlib(L, functions);
    return 1;
}
