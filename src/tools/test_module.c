/* See test_module.h. Clients own a file descriptor, test brokers own a broker; both are closed by
 * the specs or by the collector. A client holds its test broker: user value 1. */
#include "tools/test_module.h"

#include "base/program/embedded.h"
#include "base/require.h"
#include "lua/api/lua_json.h"
#include "lua/load/lua_policy_file.h"
#include "lua/vm/lua_box.h"
#include "tools/test/test_broker.h"
#include "tools/test/test_cover.h"
#include "tools/test/test_fakes.h"
#include "tools/test/test_questions.h"
#include "tools/test/test_reload.h"
#include "tools/test/test_routes.h"
#include "tools/test/test_values.h"
#include "tools/test_keys.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 16 * 1024 };

static const char bench_type[] = "tidegate.test.bench", client_type[] = "tidegate.test.client";
/* In the registry: a set of all benches that are not collected. */
static const char benches[] = "tidegate.test.benches";

struct bench {
    struct test_broker *w;    /* NULL: closed */
    struct test_fakes *fakes; /* owned */
};

struct client {
    int fd; /* < 0: closed */
};

static int test_module_fail(lua_State *L, const char *text)
{
    lua_pushnil(L);
    lua_pushstring(L, text);
    return 2;
}

static struct test_broker *check_bench(lua_State *L)
{
    struct bench *b = luaL_checkudata(L, 1, bench_type);
    luaL_argcheck(L, b->w, 1, "the policy was closed");
    return b->w;
}

static void test_module_prepare(void *ctx, struct lua_waits *waits)
{
    test_fakes_use(ctx, waits);
}

enum { BENCH_KEPT = TEST_RELOAD_KEPT + 1 }; /* user values: those, and the routes */

/* open(file, unix_ms, respond, keys, auth_open, failures, settings, targets, path, routes) -> bench | nil, text; respond,
 * failures (nil: the log), targets (nil: nothing is asked through the broker's functions): see test_fakes.h,
 * keys: see test_keys.h, settings: see test_values.h, path: a list of absolute directories, or nil; routes:
 * a list as http.routes, or nil */
static int l_open(lua_State *L)
{
    const struct test_module_options *opt = lua_touserdata(L, lua_upvalueindex(1));
    struct err e = {0};
    struct test_broker_given given;
    lua_settop(L, 10);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_argexpected(L, lua_isnil(L, 5) || lua_isboolean(L, 5), 5, "boolean or nil");
    struct test_keys *keys = test_keys_push(L, 4);
    const struct public_routes *routes = lua_isnil(L, 10) ? NULL : test_routes_push(L, 10);
    struct bench *b = lua_newuserdatauv(L, sizeof *b, BENCH_KEPT);
    *b = (struct bench){NULL, NULL};
    luaL_setmetatable(L, bench_type);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, benches);
    lua_pushvalue(L, -2);
    lua_pushboolean(L, true);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    if (routes) {
        lua_pushvalue(L, -2);
        lua_setiuservalue(L, -2, BENCH_KEPT); /* it borrows them */
    }
    if (!test_given_take(L, -1, 1, 7, 9, &given)) {
        test_keys_close(keys);
        return 2;
    }
    b->fakes = test_fakes_new(L, 3, 6);
    if (!lua_isnil(L, 8)) {
        test_fakes_behind(b->fakes, L, 8);
    }
    struct test_broker_options options = {.config = opt->config,
                                          .auth_open = lua_toboolean(L, 5),
                                          .unix_ms = luaL_optinteger(L, 2, 0),
                                          .keys = keys->n ? keys->sets : NULL,
                                          .key_count = keys->n,
                                          .given = given,
                                          .routes = routes,
                                          .queries = test_fakes_queries(b->fakes),
                                          .http = test_fakes_service(b->fakes),
                                          .prepare = test_module_prepare,
                                          .extend = test_fakes_extend,
                                          .cover = test_cover_of(opt->cover),
                                          .failed = lua_istable(L, 6) ? test_fakes_failed : NULL,
                                          .ctx = b->fakes};
    int rc = test_broker_open(&b->w, &options, &e);
    test_keys_close(keys);
    return rc ? test_module_fail(L, e.text) : 1;
}

static int l_close(lua_State *L)
{
    struct bench *b = luaL_checkudata(L, 1, bench_type);
    test_broker_close(b->w);
    test_fakes_free(b->fakes);
    *b = (struct bench){NULL, NULL};
    return 0;
}

/* close_all(): every bench */
static int l_close_all(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, benches);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_pushcfunction(L, l_close);
        lua_pushvalue(L, -3);
        lua_call(L, 1, 0);
    }
    return 0;
}

/* b:errors() -> {hook = count}, {hook = how often it used up its CPU time} */
static int l_errors(lua_State *L)
{
    const struct policy_metrics *m = test_broker_policy_metrics(check_bench(L));
    lua_newtable(L);
    lua_newtable(L);
#define X(e, name, errors, overdue)                                                                \
    lua_pushinteger(L, (lua_Integer)m->errors);                                                    \
    lua_setfield(L, -3, name);                                                                     \
    lua_pushinteger(L, (lua_Integer)m->overdue);                                                   \
    lua_setfield(L, -2, name);
    POLICY_HOOKS(X)
#undef X
    return 2;
}

static int l_events_path(lua_State *L)
{
    const struct test_module_options *opt = lua_touserdata(L, lua_upvalueindex(1));
    lua_pushstring(L, opt->events_path);
    return 1;
}

/* coverage() -> see test_cover_push(); nil: it is not recorded */
static int l_coverage(lua_State *L)
{
    const struct test_module_options *opt = lua_touserdata(L, lua_upvalueindex(1));
    if (!opt->cover) {
        return 0;
    }
    test_cover_push(L, opt->cover);
    return 1;
}

/* seconds() -> of a clock that only goes forward */
static int l_seconds(lua_State *L)
{
    lua_pushnumber(L, (double)uv_hrtime() / 1e9);
    return 1;
}

static int l_turn(lua_State *L)
{
    test_broker_turn(check_bench(L));
    return 0;
}

static int l_settled(lua_State *L)
{
    lua_pushboolean(L, test_broker_settled(check_bench(L)));
    return 1;
}

/* b:resubscribing() -> is the policy being asked about open streams, or about to be? */
static int l_resubscribing(lua_State *L)
{
    lua_pushboolean(L, broker_resubscribing(test_broker_broker(check_bench(L))));
    return 1;
}

/* b:loading() -> is a set of the policy being loaded, or about to be? */
static int l_loading(lua_State *L)
{
    lua_pushboolean(L, test_broker_loading(check_bench(L)));
    return 1;
}

/* b:load_sets(): the policy's sets, anew */
static int l_load_sets(lua_State *L)
{
    test_broker_load_sets(check_bench(L));
    return 0;
}

static int l_set_time(lua_State *L)
{
    test_broker_set_time(check_bench(L), luaL_checkinteger(L, 2));
    return 0;
}

/* b:refill(): every bucket of tg.rate is full again */
static int l_refill(lua_State *L)
{
    test_broker_refill(check_bench(L));
    return 0;
}

static int l_time_hook(lua_State *L)
{
    return test_time_hook(L, check_bench(L));
}

static int l_time_rules(lua_State *L)
{
    return test_time_rules(L, check_bench(L));
}

static int l_time_observe(lua_State *L)
{
    return test_time_observe(L, check_bench(L));
}

/* real(path) -> without links and dots; the path itself where there is no such file */
static int l_real(lua_State *L)
{
    char real[PATH_MAX];
    lua_pushstring(L, realpath(luaL_checkstring(L, 1), real) ? real : lua_tostring(L, 1));
    return 1;
}

/* measured() -> a table for what is measured, the same in all specs; nil: nothing is to be */
static int l_measured(lua_State *L)
{
    const struct test_module_options *opt = lua_touserdata(L, lua_upvalueindex(1));
    if (!opt->measure) {
        return 0;
    }
    luaL_getsubtable(L, LUA_REGISTRYINDEX, "tidegate.test.measured");
    return 1;
}

/* b:load_again(file, settings, path) -> what came of it | nil, text: see test_reload.h */
static int l_load_again(lua_State *L)
{
    return test_reload(L, check_bench(L));
}

/* b:ask_again([id of a stream]): the policy, about it or all -> is there such a stream? */
static int l_ask_again(lua_State *L)
{
    struct broker *b = test_broker_broker(check_bench(L));
    bool there = true;
    if (lua_isnoneornil(L, 2)) {
        broker_resubscribe_all(b);
    } else {
        there = broker_resubscribe(b, (uint64_t)luaL_checkinteger(L, 2));
    }
    lua_pushboolean(L, there);
    return 1;
}

/* b:insert{topic, type, data, key, attrs} -> true | nil, text. `attrs` is canonical JSON. */
static int l_insert(lua_State *L)
{
    struct test_broker *w = check_bench(L);
    const char *bad;
    struct event *ev = test_make_event(L, 2, w, &bad);
    if (!ev) {
        return test_module_fail(L, bad);
    }
    test_broker_insert(w, ev);
    lua_pushboolean(L, true);
    return 1;
}

/* b:authenticate, b:subscribe, b:accept, b:judge, b:knows, b:observe, b:disconnect, b:reload: see test_questions.h */
static int l_authenticate(lua_State *L)
{
    return test_ask_authenticate(L, check_bench(L));
}

static int l_subscribe(lua_State *L)
{
    return test_ask_subscribe(L, check_bench(L));
}

static int l_accept(lua_State *L)
{
    return test_ask_publish(L, check_bench(L));
}

static int l_disconnect(lua_State *L)
{
    return test_ask_disconnect(L, check_bench(L));
}

static int l_reload(lua_State *L)
{
    return test_ask_reload(L, check_bench(L));
}

static int l_observe(lua_State *L)
{
    return test_ask_observe(L, check_bench(L));
}

static int l_knows(lua_State *L)
{
    return test_ask_name(L, check_bench(L));
}

static int l_judge(lua_State *L)
{
    return test_ask_judge(L, check_bench(L));
}

static void push_optional(lua_State *L, const char *name, struct slice text)
{
    if (text.p) {
        lua_pushlstring(L, text.p, text.n);
        lua_setfield(L, -2, name);
    }
}

/* stack: list */
static void push_connection(void *ctx, const struct broker_connection *c)
{
    lua_State *L = ctx;
    lua_createtable(L, 0, 8);
    lua_pushinteger(L, (lua_Integer)c->id);
    lua_setfield(L, -2, "id");
    lua_createtable(L, (int)c->topic_count, 0);
    for (size_t i = 0; i < c->topic_count; i++) {
        lua_pushlstring(L, c->topics[i].p, c->topics[i].n);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "topics");
    lua_createtable(L, (int)c->tag_count, 0);
    for (size_t i = 0; i < c->tag_count; i++) {
        lua_pushlstring(L, c->tags[i].p, c->tags[i].n);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "tags");
    push_optional(L, "filter", c->filter);
    push_optional(L, "format", c->format);
    push_optional(L, "params", c->params);
    push_optional(L, "ends", c->ends);
    push_optional(L, "presence", c->presence);
    if (c->envelope) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "envelope");
    }
    if (c->every_ms) {
        lua_pushnumber(L, (double)c->every_ms / 1000);
        lua_setfield(L, -2, "every_s");
    }
    test_push_quotas(L, c->quotas, c->quota_count);
    lua_pushinteger(L, (lua_Integer)c->audience);
    lua_setfield(L, -2, "audience");
    lua_pushboolean(L, c->asked_again);
    lua_setfield(L, -2, "asked_again");
    if (c->expires_ms) {
        lua_pushinteger(L, (lua_Integer)(c->expires_ms / 1000)); /* the policy says whole seconds */
        lua_setfield(L, -2, "expires");
    }
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* b:connections() -> {{id, topics, filter, format, params (JSON), audience, expires, asked_again}, ...} */
static int l_connections(lua_State *L)
{
    struct test_broker *w = check_bench(L);
    lua_newtable(L);
    broker_each_connection(test_broker_broker(w), push_connection, L);
    return 1;
}

/* b:dial() -> client | nil, text */
static int l_dial(lua_State *L)
{
    struct test_broker *w = check_bench(L);
    struct client *c = lua_newuserdatauv(L, sizeof *c, 1);
    c->fd = -1;
    luaL_setmetatable(L, client_type);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    c->fd = test_broker_dial(w);
    return c->fd < 0 ? test_module_fail(L, uv_strerror(c->fd)) : 1;
}

static struct client *check_client(lua_State *L)
{
    struct client *c = luaL_checkudata(L, 1, client_type);
    luaL_argcheck(L, c->fd >= 0, 1, "the connection was closed");
    return c;
}

/* c:write(bytes) -> how many the broker's end has room for */
static int l_write(lua_State *L)
{
    struct client *c = check_client(L);
    size_t n;
    const char *p = luaL_checklstring(L, 2, &n);
    ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        return test_module_fail(L, strerror(errno));
    }
    lua_pushinteger(L, sent < 0 ? 0 : sent);
    return 1;
}

/* c:read() -> bytes, "" when there are none yet; nil when the broker has closed the connection */
static int l_read(lua_State *L)
{
    struct client *c = check_client(L);
    char bytes[READ_BYTES];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n > 0) {
        lua_pushlstring(L, bytes, (size_t)n);
    } else if (n < 0 && errno == EAGAIN) {
        lua_pushliteral(L, "");
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int l_hang_up(lua_State *L)
{
    struct client *c = luaL_checkudata(L, 1, client_type);
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    return 0;
}

static void make_type(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

static int l_native(lua_State *L)
{
    const struct test_module_options *opt = lua_touserdata(L, lua_upvalueindex(1));
    static const luaL_Reg bench[] = {
        {"close", l_close},
        {"turn", l_turn},
        {"settled", l_settled},
        {"resubscribing", l_resubscribing},
        {"loading", l_loading},
        {"load_sets", l_load_sets},
        {"set_time", l_set_time},
        {"refill", l_refill},
        {"insert", l_insert},
        {"connections", l_connections},
        {"dial", l_dial},
        {"errors", l_errors},
        {"authenticate", l_authenticate},
        {"subscribe", l_subscribe},
        {"accept", l_accept},
        {"judge", l_judge},
        {"knows", l_knows},
        {"observe", l_observe},
        {"disconnect", l_disconnect},
        {"reload", l_reload},
        {"load_again", l_load_again},
        {"time_hook", l_time_hook},
        {"time_rules", l_time_rules},
        {"time_observe", l_time_observe},
        {"ask_again", l_ask_again},
        {"__gc", l_close},
        {NULL, NULL},
    };
    static const luaL_Reg client[] = {
        {"write", l_write},  {"read", l_read}, {"close", l_hang_up},
        {"__gc", l_hang_up}, {NULL, NULL},
    };
    make_type(L, bench_type, bench);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, benches);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    make_type(L, client_type, client);
    test_keys_open(L);
    static const luaL_Reg functions[] = {{"open", l_open},
                                         {"seconds", l_seconds},
                                         {"key", test_keys_new},
                                         {"events_path", l_events_path},
                                         {"coverage", l_coverage},
                                         {"close_all", l_close_all},
                                         {"measured", l_measured},
                                         {"real", l_real},
                                         {NULL, NULL}};
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)opt);
    luaL_setfuncs(L, functions, 1);
    lua_box_open(L);
    lua_json_open(L);
    lua_setfield(L, -2, "json");
    return 1;
}

/* upvalue: the path of an embedded Lua file */
static int l_embedded(lua_State *L)
{
    const char *path = lua_tostring(L, lua_upvalueindex(1));
    const struct embedded *file = embedded_find(path);
    REQUIRE(file);
    if (luaL_loadbufferx(L, file->data, file->size, lua_pushfstring(L, "@%s", path), "t")) {
        return lua_error(L);
    }
    lua_call(L, 0, 1);
    return 1;
}

void test_module_preload(lua_State *L, const struct test_module_options *opt)
{
    static const char *const files[][2] = {
        {"tidegate.test", "scripts/lib/test.lua"},
        {"tidegate.test.answers", "scripts/lib/test_answers.lua"},
        {"tidegate.test.bench", "scripts/lib/test_bench.lua"},
        {"tidegate.test.changes", "scripts/lib/test_changes.lua"},
        {"tidegate.test.coverage", "scripts/lib/test_coverage.lua"},
        {"tidegate.test.request", "scripts/lib/test_request.lua"},
        {"tidegate.test.tokens", "scripts/lib/test_tokens.lua"},
        {"tidegate.eval", "scripts/lib/eval.lua"},
        {"tidegate.check", "scripts/lib/check.lua"},
        {"tidegate.dump", "scripts/lib/lua_dump.lua"},
        {"tidegate.check.costs", "scripts/lib/check_costs.lua"},
        {"tidegate.check.latest", "scripts/lib/check_latest.lua"},
        {"tidegate.check.locals", "scripts/lib/check_locals.lua"},
        {"tidegate.check.samples", "scripts/lib/check_samples.lua"},
        {"tidegate.check.tokens", "scripts/lib/check_tokens.lua"},
        {"tidegate.config.lines", "scripts/lib/config_lines.lua"}};
    /* no struct lua_vm: lua_json is used here outside a policy, where nothing has a budget */
    memset(lua_getextraspace(L), 0, LUA_EXTRASPACE);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushlightuserdata(L, (void *)(uintptr_t)opt);
    lua_pushcclosure(L, l_native, 1);
    lua_setfield(L, -2, "tidegate.test.native");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        lua_pushstring(L, files[i][1]);
        lua_pushcclosure(L, l_embedded, 1);
        lua_setfield(L, -2, files[i][0]);
    }
    lua_pop(L, 1);
}
