#include "lua/api/lua_event.h"

#include "base/text/json_text.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_shape.h"
#include "lua/vm/lua_vm.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What is made once per event, on first access, as user values of the userdata. */
enum { SLOT_ATTRS = 1, SLOT_DATA, SLOT_RAW, SLOT_COUNT = SLOT_RAW };

struct event_box {
    struct event *ev; /* owned; NULL after __gc */
    size_t charged;
    bool made[SLOT_COUNT + 1];
};

static const char *const event_type_name = "tidegate.event";
/* Its address: in the registry a table of userdata by the event's id, modulo CACHED. It does not
 * keep them alive: what a collection has left is found again. */
static const char cache_key;
enum { CACHED = 256 };

static int event_gc(lua_State *L)
{
    struct event_box *b = lua_touserdata(L, 1);
    if (b->ev) {
        lua_vm_discharge(L, b->charged);
        event_unref(b->ev);
        b->ev = NULL;
    }
    return 0;
}

static void push_slice(lua_State *L, struct slice s)
{
    if (s.p) {
        lua_pushlstring(L, s.p, s.n);
    } else {
        lua_pushnil(L);
    }
}

static void make_attrs(lua_State *L, const struct event *ev)
{
    struct slice attrs = event_attrs(ev);
    struct lua_json_error why;
    if (attrs.n == 0) {
        lua_newtable(L);
    } else if (lua_json_decode(L, attrs, &why) != LUA_JSON_OK) {
        luaL_error(L, "attrs of event %s cannot be read: %s", event_topic(ev).p, why.text);
    }
    if (lua_type(L, -1) != LUA_TTABLE) {
        luaL_error(L, "attrs of event %s are not an object", event_topic(ev).p);
    }
    lua_readonly_wrap(L, "event attrs");
}

/* JSON that cannot be read safely is not handed on as a text: a format that expects a table must not be
 * handed the unredacted text instead. */
bool lua_event_push_data(lua_State *L, struct slice data, const char *what,
                         struct lua_json_error *why)
{
    switch (lua_json_decode(L, data, why)) {
    case LUA_JSON_OK:
        if (lua_type(L, -1) == LUA_TTABLE) {
            lua_readonly_wrap_deep(L, what);
        }
        return true;
    case LUA_JSON_NOT_JSON:
        /* Others may read as JSON what jansson does not (a lone surrogate, escaped). */
        if (json_text_ok(data)) {
            return false;
        }
        push_slice(L, data);
        return true;
    case LUA_JSON_REFUSED:
        break;
    }
    return false;
}

static void make_data(lua_State *L, const struct event *ev)
{
    struct lua_json_error why;
    if (!lua_event_push_data(L, event_data(ev), "event data", &why)) {
        luaL_error(L, "event data cannot be decoded (%s); ev.raw has the text", why.text);
    }
}

static int push_made(lua_State *L, struct event_box *b, int slot)
{
    if (b->made[slot]) {
        lua_getiuservalue(L, 1, slot);
        return 1;
    }
    if (slot == SLOT_ATTRS) {
        make_attrs(L, b->ev);
    } else if (slot == SLOT_DATA) {
        make_data(L, b->ev);
    } else {
        push_slice(L, event_data(b->ev));
    }
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, slot);
    b->made[slot] = true;
    return 1;
}

static int event_index(lua_State *L)
{
    struct event_box *b = luaL_checkudata(L, 1, event_type_name);
    struct slice key = {NULL, 0};
    luaL_argcheck(L, b->ev, 1, "the event is gone");
    key.p = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &key.n) : "";
    if (slice_is(key, "attrs")) {
        return push_made(L, b, SLOT_ATTRS);
    }
    if (slice_is(key, "data")) {
        return push_made(L, b, SLOT_DATA);
    }
    if (slice_is(key, "topic")) {
        push_slice(L, event_topic(b->ev));
    } else if (slice_is(key, "type")) {
        push_slice(L, event_type(b->ev));
    } else if (slice_is(key, "raw")) {
        return push_made(L, b, SLOT_RAW);
    } else if (slice_is(key, "id")) {
        char id[EVENT_ID_TEXT_MAX + 8];
        lua_pushlstring(L, id, (size_t)snprintf(id, sizeof id, "%" PRIu64, b->ev->id));
    } else if (slice_is(key, "key")) {
        push_slice(L, event_key(b->ev));
    } else if (slice_is(key, "time")) {
        lua_pushnumber(L, (double)b->ev->time_ms / 1000.0);
    } else if (slice_is(key, "expires")) {
        if (!b->ev->expires_ms) {
            return 0;
        }
        lua_pushnumber(L, (double)b->ev->expires_ms / 1000.0);
    } else {
        static const char *const names[] = {"id",    "topic", "type", "key",    "time",
                                            "attrs", "data",  "raw",  "expires"};
        return lua_shape_no_field(L, "event", 2, names, sizeof names / sizeof *names);
    }
    return 1;
}

static int event_newindex(lua_State *L)
{
    return luaL_error(L, "events are read-only");
}

static int event_tostring(lua_State *L)
{
    struct event_box *b = luaL_checkudata(L, 1, event_type_name);
    luaL_argcheck(L, b->ev, 1, "the event is gone");
    char id[EVENT_ID_TEXT_MAX + 8];
    snprintf(id, sizeof id, "%" PRIu64, b->ev->id);
    lua_pushfstring(L, "event %s on %s", id, event_topic(b->ev).p);
    return 1;
}

void lua_event_open(lua_State *L)
{
    static const luaL_Reg methods[] = {{"__gc", event_gc},
                                       {"__index", event_index},
                                       {"__newindex", event_newindex},
                                       {"__tostring", event_tostring},
                                       {NULL, NULL}};
    luaL_newmetatable(L, event_type_name);
    luaL_setfuncs(L, methods, 0);
    lua_pushliteral(L, "event");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_createtable(L, CACHED, 0);
    lua_createtable(L, 0, 1); /* stack: cache, metatable */
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &cache_key);
}

void lua_event_push(lua_State *L, struct event *ev)
{
    lua_Integer slot = (lua_Integer)(ev->id % CACHED) + 1;
    luaL_checkstack(L, 4, NULL);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &cache_key); /* stack: cache */
    /* A userdata owns a reference, so an equal pointer is the same event. */
    if (lua_rawgeti(L, -1, slot) == LUA_TUSERDATA) {
        const struct event_box *known = lua_touserdata(L, -1);
        if (known->ev == ev) {
            lua_remove(L, -2);
            return;
        }
    }
    lua_pop(L, 1);
    struct event_box *b = lua_newuserdatauv(L, sizeof *b, SLOT_COUNT); /* stack: cache, event */
    *b = (struct event_box){0};
    luaL_setmetatable(L, event_type_name);
    size_t cost = event_cost(ev);
    lua_vm_charge(L, cost);
    b->charged = cost;
    b->ev = event_ref(ev);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, slot);
    lua_remove(L, -2);
}
