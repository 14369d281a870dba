/* pg/pg_client.h: one client on a loop of its own. What it calls back is kept as a list; a
 * reaction calls the client back from within. A timer of 10 ms on the same loop measures whether
 * anything blocks it. */
#include "base/require.h"
#include "native.h"
#include "pg/pg_client.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PG_TYPE "native.pg"

enum { TICK_MS = 10, HANG_S = 20 };

/* The client takes static texts only; the servers of the specs do not read them anyway. */
static const struct pg_statement statements[] = {
    {NULL, "SELECT plain"},
    {"first", "SELECT first"},
    {"second", "SELECT second"},
};
static const char *const names[] = {"plain", "first", "second", NULL};
static const char *const moments[] = {"none", "ready", "lost", "notified", "done", NULL};
static const char *const deeds[] = {"ask", "close", "drop", "nudge", NULL};

struct driver {
    uv_loop_t loop;
    uv_timer_t tick;
    uint64_t ticked,
        computed; /* at the last tick, ns: the clock's, and that of the thread's work */
    uint64_t gap;
    struct pg_conninfo conninfo;
    struct pg_client *client; /* NULL: closed */
    lua_State *L;             /* of the running call */
    int events;               /* table in the registry */
    uint64_t token;
    int moment, deed; /* the next `moment` is answered with `deed` */
    bool closing, over;
};

/* ------------------------------------------------------------------ callbacks */

/* Leaves a new entry of the list on the stack. */
static void push_entry(struct driver *d, const char *kind)
{
    lua_State *L = d->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->events);
    lua_createtable(L, 0, 6);
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "kind");
    lua_pushnumber(L, (lua_Number)uv_hrtime() / 1e9);
    lua_setfield(L, -2, "at");
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, (lua_Integer)lua_rawlen(L, -3) + 1);
    lua_remove(L, -2);
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void on_done(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f);

static void on_closed(void *ctx)
{
    struct driver *d = ctx;
    push_entry(d, "closed");
    lua_pop(d->L, 1);
    d->client = NULL;
}

static void begin_close(struct driver *d)
{
    if (!d->closing) {
        d->closing = true;
        pg_client_close(d->client, on_closed, d);
    }
}

static int ask(struct driver *d, const struct pg_statement *st, const char *arg, size_t n)
{
    struct pg_args args;
    pg_args_init(&args, 64 << 20);
    if (arg) {
        pg_args_bytes(&args, arg, n);
    }
    return pg_client_ask(d->client, st, &args, on_done, d, ++d->token);
}

static void react(struct driver *d, const char *moment)
{
    if (d->closing || strcmp(moments[d->moment], moment) != 0) {
        return;
    }
    d->moment = 0;
    int rc = 0;
    switch (*deeds[d->deed]) {
    case 'a':
        rc = ask(d, &statements[0], NULL, 0);
        push_entry(d, rc ? "refused" : "asked");
        set_text(d->L, "error", rc ? uv_err_name(rc) : NULL);
        lua_pop(d->L, 1);
        break;
    case 'c':
        begin_close(d);
        break;
    case 'd':
        pg_client_drop(d->client, "dropped from within");
        break;
    default:
        pg_client_wake(d->client);
        break;
    }
}

static void on_done(void *ctx, uint64_t token, const PGresult *res, const struct pg_fault *f)
{
    struct driver *d = ctx;
    REQUIRE((res == NULL) != (f == NULL));
    push_entry(d, "done");
    lua_pushinteger(d->L, (lua_Integer)token);
    lua_setfield(d->L, -2, "token");
    if (f) {
        set_text(d->L, "error", uv_err_name(f->code));
        set_text(d->L, "sqlstate", f->sqlstate);
        set_text(d->L, "text", f->text);
    } else {
        lua_pushinteger(d->L, PQntuples(res));
        lua_setfield(d->L, -2, "rows");
    }
    lua_pop(d->L, 1);
    react(d, "done");
}

static void on_ready(void *ctx)
{
    struct driver *d = ctx;
    push_entry(d, "ready");
    lua_pop(d->L, 1);
    react(d, "ready");
}

static void on_lost(void *ctx, const struct err *e)
{
    struct driver *d = ctx;
    push_entry(d, "lost");
    set_text(d->L, "error", uv_err_name(e->code));
    set_text(d->L, "text", e->text);
    lua_pushinteger(d->L, pg_client_pending(d->client));
    lua_setfield(d->L, -2, "pending");
    lua_pop(d->L, 1);
    react(d, "lost");
}

static void on_notified(void *ctx, const char *payload)
{
    struct driver *d = ctx;
    push_entry(d, "notified");
    set_text(d->L, "text", payload);
    lua_pop(d->L, 1);
    react(d, "notified");
}

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    REQUIRE(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) == 0);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static void on_tick(uv_timer_t *t)
{
    struct driver *d = t->data;
    uint64_t now = uv_hrtime();
    uint64_t computed = cpu_ns();
    /* work is no standing still: megabytes are copied slowly under a sanitizer */
    uint64_t still = now - d->ticked - (computed - d->computed);
    d->gap = still <= INT64_MAX && still > d->gap ? still : d->gap; /* the clocks differ a little */
    d->ticked = now;
    d->computed = computed;
}

/* ------------------------------------------------------------------ methods */

static struct driver *check(lua_State *L)
{
    struct driver *d = luaL_checkudata(L, 1, PG_TYPE);
    luaL_argcheck(L, !d->over, 1, "is over");
    d->L = L;
    luaL_checkstack(L, 20, NULL);
    return d;
}

static struct driver *check_open(lua_State *L)
{
    struct driver *d = check(L);
    luaL_argcheck(L, !d->closing, 1, "is closed");
    return d;
}

/* turn(): one turn that does not wait. A call that waits for the server, which cannot answer
 * meanwhile, would wait for ever: SIGALRM ends the run then. */
static int l_turn(lua_State *L)
{
    struct driver *d = check(L);
    (void)alarm(HANG_S);
    (void)uv_run(&d->loop, UV_RUN_NOWAIT);
    (void)alarm(0);
    return 0;
}

/* ask(statement, argument or nil): token, or nil and why not */
static int l_ask(lua_State *L)
{
    struct driver *d = check_open(L);
    size_t n = 0;
    int which = luaL_checkoption(L, 2, "plain", names);
    const char *arg = luaL_optlstring(L, 3, NULL, &n);
    (void)lua_rawgeti(L, LUA_REGISTRYINDEX, d->events);
    lua_Integer before = luaL_len(L, -1);
    int rc = ask(d, &statements[which], arg, n);
    REQUIRE(luaL_len(L, -1) == before); /* nothing completes within the call */
    if (rc) {
        lua_pushnil(L);
        lua_pushstring(L, uv_err_name(rc));
        return 2;
    }
    lua_pushinteger(L, (lua_Integer)d->token);
    return 1;
}

static int l_react(lua_State *L)
{
    struct driver *d = check_open(L);
    d->moment = luaL_checkoption(L, 2, NULL, moments);
    d->deed = luaL_checkoption(L, 3, NULL, deeds);
    return 0;
}

static int l_drop(lua_State *L)
{
    pg_client_drop(check_open(L)->client, luaL_checkstring(L, 2));
    return 0;
}

static int l_nudge(lua_State *L)
{
    pg_client_wake(check_open(L)->client);
    return 0;
}

static int l_state(lua_State *L)
{
    struct driver *d = check_open(L);
    lua_createtable(L, 0, 4);
    lua_pushboolean(L, pg_client_takes(d->client));
    lua_setfield(L, -2, "takes");
    lua_pushboolean(L, pg_client_ready(d->client));
    lua_setfield(L, -2, "ready");
    lua_pushinteger(L, pg_client_pending(d->client));
    lua_setfield(L, -2, "pending");
    lua_pushinteger(L, pg_client_server_version(d->client));
    lua_setfield(L, -2, "version");
    return 1;
}

/* events(): all there were so far */
static int l_events(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, check(L)->events);
    return 1;
}

/* gap(): the longest time in seconds between two ticks so far in which the thread did no work */
static int l_gap(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)check(L)->gap / 1e9);
    return 1;
}

/* begin_close(): nothing is called back yet */
static int l_begin_close(lua_State *L)
{
    struct driver *d = check_open(L);
    (void)lua_rawgeti(L, LUA_REGISTRYINDEX, d->events);
    lua_Integer before = luaL_len(L, -1);
    begin_close(d);
    REQUIRE(luaL_len(L, -1) == before);
    return 0;
}

static void finish(struct driver *d)
{
    begin_close(d);
    uv_close((uv_handle_t *)&d->tick, NULL);
    (void)alarm(HANG_S);
    (void)uv_run(&d->loop, UV_RUN_DEFAULT);
    (void)alarm(0);
    pg_conninfo_clear(&d->conninfo);
    d->over = true;
}

/* finish_close(): turns the loop until nothing is left; what uv_loop_close() says, and the events
 */
static int l_finish_close(lua_State *L)
{
    struct driver *d = check(L);
    finish(d);
    REQUIRE(d->client == NULL);
    lua_pushinteger(L, uv_loop_close(&d->loop));
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->events);
    luaL_unref(L, LUA_REGISTRYINDEX, d->events);
    return 2;
}

static int l_gc(lua_State *L)
{
    struct driver *d = luaL_checkudata(L, 1, PG_TYPE);
    if (!d->over) {
        d->L = L;
        finish(d);
        (void)uv_loop_close(&d->loop);
        luaL_unref(L, LUA_REGISTRYINDEX, d->events);
    }
    return 0;
}

static lua_Integer option(lua_State *L, const char *name, lua_Integer missing)
{
    lua_getfield(L, 1, name);
    lua_Integer n = luaL_optinteger(L, -1, missing);
    lua_pop(L, 1);
    return n;
}

/* new{conninfo =, connect_ms =, answer_ms =, setup = true, once = true} */
static int l_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct driver *d = lua_newuserdatauv(L, sizeof *d, 0);
    memset(d, 0, sizeof *d);
    struct err e = {0};
    lua_getfield(L, 1, "conninfo");
    if (pg_conninfo_parse(&d->conninfo, luaL_checkstring(L, -1), &e) != 0) {
        return luaL_error(L, "%s", e.text);
    }
    lua_pop(L, 1);
    lua_getfield(L, 1, "once");
    lua_getfield(L, 1, "setup");
    struct pg_client_options opt = {
        .conninfo = &d->conninfo,
        .role = "spec",
        .setup = lua_toboolean(L, -1) ? "SELECT setup" : NULL,
        .connect_timeout_ms = (unsigned)option(L, "connect_ms", 1500),
        .answer_timeout_ms = (unsigned)option(L, "answer_ms", 1000),
        .once = lua_toboolean(L, -2),
    };
    lua_pop(L, 2);
    struct pg_client_events events = {.ready = on_ready, .lost = on_lost, .notified = on_notified};
    lua_newtable(L);
    d->events = luaL_ref(L, LUA_REGISTRYINDEX);
    REQUIRE(uv_loop_init(&d->loop) == 0);
    REQUIRE(uv_timer_init(&d->loop, &d->tick) == 0);
    d->tick.data = d;
    d->ticked = uv_hrtime();
    d->computed = cpu_ns();
    REQUIRE(uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS) == 0);
    d->client = pg_client_new(&d->loop, &opt, &events, d);
    luaL_setmetatable(L, PG_TYPE);
    return 1;
}

int native_open_pg(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"ask", l_ask},     {"begin_close", l_begin_close},
        {"drop", l_drop},   {"events", l_events},
        {"gap", l_gap},     {"finish_close", l_finish_close},
        {"nudge", l_nudge}, {"react", l_react},
        {"state", l_state}, {"turn", l_turn},
        {"__gc", l_gc},     {NULL, NULL},
    };
    static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};
    native_class(L, PG_TYPE, methods);
    luaL_newlib(L, functions);
    return 1;
}
