/* admin/metrics: the page of a filled view. */
#include "admin/metrics.h"
#include "native.h"

static uint64_t member(lua_State *L, int table, const char *name)
{
    lua_getfield(L, table, name);
    uint64_t value = (uint64_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return value;
}

static void fill_latency(lua_State *L, int table, const char *name, struct latency *l)
{
    if (lua_getfield(L, table, name) == LUA_TTABLE) {
        lua_Integer n = luaL_len(L, -1);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, -1, i);
            latency_add(l, (uint64_t)lua_tointeger(L, -1));
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

static const char *text(lua_State *L, int table, const char *name)
{
    lua_getfield(L, table, name);
    const char *value = lua_tostring(L, -1); /* the table keeps it */
    lua_pop(L, 1);
    return value;
}

static void fill(lua_State *L, struct net_metrics *net, struct broker_metrics *broker)
{
#define X(m, kind, name, help) net->m = member(L, 1, #m);
    NET_METRICS(X)
#undef X
#define X(m, kind, name, help) broker->m = member(L, 1, #m);
    BROKER_METRICS(X)
#undef X
    for (unsigned i = 0; i < CLOSE_REASON_COUNT; i++) {
        net->closed[i] = member(L, 1, close_reason_name((enum close_reason)i));
    }
    fill_latency(L, 1, "store_append", &broker->store_append);
    fill_latency(L, 1, "store_read", &broker->store_read);
}

/* render{member = n, ["close-reason"] = n, store_append = {us, ...}, version =, policy_version =,
 *        store = {ok =, events =, bytes =}, max = bytes} -> page, or nil, code */
static int l_render(lua_State *L)
{
    struct net_metrics net = {0};
    struct broker_metrics broker = {0};
    struct store_health health = {.detail = "fine"};
    struct process_stats process = metrics_process(12.5);
    luaL_checktype(L, 1, LUA_TTABLE);
    fill(L, &net, &broker);
    struct metrics_view view = {.net = &net,
                                .broker = &broker,
                                .process = &process,
                                .version = text(L, 1, "version"),
                                .policy_version = text(L, 1, "policy_version"),
                                .ready = true};
    if (lua_getfield(L, 1, "store") == LUA_TTABLE) {
        health.ok = member(L, lua_gettop(L), "ok") != 0;
        health.events = member(L, lua_gettop(L), "events");
        health.bytes = member(L, lua_gettop(L), "bytes");
        view.store = &health;
    }
    struct strbuf out;
    uint64_t max = member(L, 1, "max");
    strbuf_init(&out, max ? (size_t)max : 1024 * 1024);
    int rc = metrics_render(&view, &out);
    if (rc) {
        strbuf_clear(&out);
        lua_pushnil(L);
        lua_pushinteger(L, rc);
        return 2;
    }
    lua_pushlstring(L, out.data, out.len);
    strbuf_clear(&out);
    return 1;
}

/* names() -> list of the members of both structs, list of the close reasons */
static int l_names(lua_State *L)
{
    static const char *const members[] = {
#define X(m, kind, name, help) #m,
        NET_METRICS(X) BROKER_METRICS(X)
#undef X
    };
    lua_newtable(L);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        lua_pushstring(L, members[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_newtable(L);
    for (unsigned i = 0; i < CLOSE_REASON_COUNT; i++) {
        lua_pushstring(L, close_reason_name((enum close_reason)i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 2;
}

int native_open_admin(lua_State *L)
{
    static const luaL_Reg functions[] = {{"render", l_render}, {"names", l_names}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
