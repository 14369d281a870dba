/* broker/: audience_index, with audiences that are nothing but topics and a filter text. */
#include "audience/audience.h"
#include "audience/audience_index.h"
#include "filter/filter.h"
#include "native.h"
#include "native_policy.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

static const char index_class[] = "native.audience_index";

enum { AUDIENCES_MAX = 20000 };

struct index_box {
    struct audience_index *ix;
    struct filter_set *set;
    struct audience *audiences[AUDIENCES_MAX]; /* by number; NULL: none */
};

static struct slice check_slice(lua_State *L, int arg)
{
    size_t n;
    const char *p = luaL_checklstring(L, arg, &n);
    return slice_of(p, n);
}

static int l_new(lua_State *L)
{
    struct index_box *b = lua_newuserdatauv(L, sizeof *b, 0);
    memset(b, 0, sizeof *b);
    b->ix = audience_index_new();
    b->set = filter_set_new();
    luaL_setmetatable(L, index_class);
    return 1;
}

static void drop(struct index_box *b, lua_Integer number)
{
    struct audience *a = b->audiences[number];
    if (!a) {
        return;
    }
    audience_index_del(b->ix, a);
    filter_args_free(a->binding.text);
    for (size_t i = 0; i < a->topic_count; i++) {
        free((void *)(uintptr_t)a->topics[i].p);
    }
    free(a->topics);
    free(a);
    b->audiences[number] = NULL;
}

static int l_gc(lua_State *L)
{
    struct index_box *b = luaL_checkudata(L, 1, index_class);
    for (lua_Integer i = 0; i < AUDIENCES_MAX; i++) {
        drop(b, i);
    }
    audience_index_free(b->ix);
    filter_set_free(b->set);
    b->ix = NULL;
    b->set = NULL;
    return 0;
}

static lua_Integer check_number(lua_State *L)
{
    lua_Integer number = luaL_checkinteger(L, 2);
    luaL_argcheck(L, number >= 0 && number < AUDIENCES_MAX, 2, "out of range");
    return number;
}

/* index:add(number, {topic, ..} [, program, params]) */
static int l_add(lua_State *L)
{
    struct index_box *b = luaL_checkudata(L, 1, index_class);
    lua_Integer number = check_number(L);
    struct err e = {0};
    luaL_argcheck(L, !b->audiences[number], 2, "taken");
    luaL_checktype(L, 3, LUA_TTABLE);
    struct filter_args *args = NULL;
    if (!lua_isnoneornil(L, 4)) {
        luaL_checktype(L, 4, LUA_TLIGHTUSERDATA);
        args = filter_bind(lua_touserdata(L, 4), check_slice(L, 5), &e);
        if (!args) {
            return luaL_error(L, "%s", e.text);
        }
    }
    struct audience *a = calloc(1, sizeof *a);
    a->id = (uint64_t)number;
    a->binding = (struct policy_binding){
        .filter = args ? 0 : -1, .format = -1, .params = -1, .text = args, .ends = -1};
    a->topic_count = (size_t)lua_rawlen(L, 3);
    a->topics = calloc(a->topic_count + 1, sizeof *a->topics);
    for (size_t i = 0; i < a->topic_count; i++) {
        lua_rawgeti(L, 3, (lua_Integer)i + 1);
        a->topics[i] = slice_str(strdup(luaL_checkstring(L, -1)));
        lua_pop(L, 1);
    }
    b->audiences[number] = a;
    audience_index_add(b->ix, a);
    return 0;
}

static int l_del(lua_State *L)
{
    struct index_box *b = luaL_checkudata(L, 1, index_class);
    drop(b, check_number(L));
    return 0;
}

/* index:compile(text) -> program */
static int l_compile(lua_State *L)
{
    struct index_box *b = luaL_checkudata(L, 1, index_class);
    struct filter_error e;
    const struct filter *m = filter_compile(b->set, check_slice(L, 2), &e);
    if (!m) {
        return luaL_error(L, "%s", e.text);
    }
    lua_pushlightuserdata(L, (void *)(uintptr_t)m);
    return 1;
}

struct found {
    lua_State *L;
    struct event *ev;
    lua_Integer visits;
};

static void on_visit(void *ctx, struct audience *a)
{
    struct found *f = ctx;
    f->visits++;
    if (!a->binding.text || filter_test(a->binding.text, f->ev)) {
        lua_pushboolean(f->L, true);
        lua_rawseti(f->L, -2, (lua_Integer)a->id);
    }
}

static void on_judge(void *ctx, struct audience *a)
{
    struct found *f = ctx;
    f->visits += !a->binding.text || filter_test(a->binding.text, f->ev);
}

/* index:route(event [, times]) -> audiences that want it, seconds per event */
static int l_route(lua_State *L)
{
    struct index_box *b = luaL_checkudata(L, 1, index_class);
    struct found f = {L, native_check_event(L, 2), 0};
    lua_Integer times = luaL_optinteger(L, 3, 1);
    uint64_t start = uv_hrtime();
    for (lua_Integer i = 0; i < times; i++) {
        f.visits = 0;
        audience_index_match(b->ix, f.ev, on_judge, &f);
    }
    lua_pushinteger(L, f.visits);
    lua_pushnumber(L, (double)(uv_hrtime() - start) / 1e9 / (double)times);
    return 2;
}

/* index:match(event) -> {[number] = true}, audiences visited, attributes looked up */
static int l_match(lua_State *L)
{
    struct index_box *b = luaL_checkudata(L, 1, index_class);
    struct found f = {L, native_check_event(L, 2), 0};
    lua_newtable(L);
    size_t probes = audience_index_match(b->ix, f.ev, on_visit, &f);
    lua_pushinteger(L, f.visits);
    lua_pushinteger(L, (lua_Integer)probes);
    return 3;
}

/* index:wants(number, event) -> boolean: without the index */
static int l_wants(lua_State *L)
{
    struct index_box *b = luaL_checkudata(L, 1, index_class);
    const struct audience *a = b->audiences[check_number(L)];
    struct event *ev = native_check_event(L, 3);
    lua_pushboolean(L, a && audience_wants(a, event_topic(ev)) &&
                           (!a->binding.text || filter_test(a->binding.text, ev)));
    return 1;
}

int native_open_audience(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"__gc", l_gc},     {"add", l_add},     {"del", l_del},     {"compile", l_compile},
        {"match", l_match}, {"route", l_route}, {"wants", l_wants}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};
    native_class(L, index_class, methods);
    luaL_newlib(L, functions);
    return 1;
}
