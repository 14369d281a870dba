/* broker/: topic, topic_index. */
#include "audience/topic_index.h"
#include "event/topic.h"
#include "native.h"

#include <stdint.h>

static const char index_class[] = "native.topic_index";

static struct slice check_slice(lua_State *L, int arg)
{
    size_t n;
    const char *p = luaL_checklstring(L, arg, &n);
    return slice_of(p, n);
}

static int l_name_check(lua_State *L)
{
    lua_pushstring(L, topic_name_check(check_slice(L, 1)));
    return 1;
}

static int l_pattern_check(lua_State *L)
{
    lua_pushstring(L, topic_pattern_check(check_slice(L, 1)));
    return 1;
}

static int l_is_pattern(lua_State *L)
{
    lua_pushboolean(L, topic_is_pattern(check_slice(L, 1)));
    return 1;
}

static int l_match(lua_State *L)
{
    lua_pushboolean(L, topic_match(check_slice(L, 1), check_slice(L, 2)));
    return 1;
}

static int l_segment_ok(lua_State *L)
{
    lua_pushboolean(L, topic_segment_ok(check_slice(L, 1)));
    return 1;
}

static int l_segments(lua_State *L)
{
    struct slice rest = check_slice(L, 1), segment;
    lua_newtable(L);
    for (lua_Integer i = 1; topic_next_segment(&rest, &segment); i++) {
        lua_pushlstring(L, segment.p, segment.n);
        lua_rawseti(L, -2, i);
    }
    return 1;
}

static int l_utf8_prefix(lua_State *L)
{
    struct slice text = check_slice(L, 1);
    size_t n = utf8_prefix(text);
    lua_pushinteger(L, (lua_Integer)n);
    lua_pushboolean(L, utf8_ok(text));
    return 2;
}

static struct topic_index *check_index(lua_State *L)
{
    return *(struct topic_index **)luaL_checkudata(L, 1, index_class);
}

/* Members are small integers, not 0. */
static void *check_member(lua_State *L, int arg)
{
    return (void *)(uintptr_t)luaL_checkinteger(L, arg);
}

static int l_index_new(lua_State *L)
{
    struct topic_index **ix = lua_newuserdata(L, sizeof *ix);
    *ix = topic_index_new();
    luaL_setmetatable(L, index_class);
    return 1;
}

static int l_index_gc(lua_State *L)
{
    topic_index_free(check_index(L));
    return 0;
}

/* index:put(pattern, member): the one that stands under it */
static int l_index_put(lua_State *L)
{
    struct topic_slot *slot = topic_index_slot(check_index(L), check_slice(L, 2));
    slot->value = check_member(L, 3);
    return 0;
}

static int l_index_del(lua_State *L)
{
    struct topic_slot *slot = topic_index_slot(check_index(L), check_slice(L, 2));
    lua_pushboolean(L, slot->value != NULL);
    slot->value = NULL;
    topic_index_prune(slot);
    return 1;
}

static void collect(void *ctx, void *member)
{
    lua_State *L = ctx;
    lua_pushinteger(L, (lua_Integer)(uintptr_t)member);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* index:match(topic) -> members in no order, branches followed */
static int l_index_match(lua_State *L)
{
    lua_newtable(L);
    size_t cost = topic_index_match(check_index(L), check_slice(L, 2), collect, L);
    lua_pushinteger(L, (lua_Integer)cost);
    return 2;
}

int native_open_topic(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"name_check", l_name_check},
        {"pattern_check", l_pattern_check},
        {"is_pattern", l_is_pattern},
        {"match", l_match},
        {"segment_ok", l_segment_ok},
        {"segments", l_segments},
        {"utf8_prefix", l_utf8_prefix},
        {"index", l_index_new},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {
        {"put", l_index_put}, {"del", l_index_del}, {"match", l_index_match},
        {"__gc", l_index_gc}, {NULL, NULL},
    };
    native_class(L, index_class, methods);
    luaL_newlib(L, functions);
    return 1;
}
