#include "lua/hooks/lua_first.h"

#include "base/utf8.h"
#include "event/sse_frame.h"
#include "lua/api/lua_json.h"
#include "lua/vm/lua_shape.h"

#include <stdio.h>
#include <string.h>

enum { FIRST_MAX = 1000 /* frames */ };

static int first_too_long(lua_State *L, const char *what, const struct verdict_draft *d)
{
    return luaL_error(L, "%s: all of `first` may have %I bytes (policy.first_bytes)", what,
                      (LUAI_UACINT)d->limits->first_bytes);
}

/* stack: .., the entry */
static struct slice first_event(lua_State *L, int at, const char *what)
{
    struct slice name = slice_of(NULL, 0);
    if (lua_shape_field(L, at, "event") != LUA_TNIL) {
        name = lua_shape_string(L, -1, what);
        if (name.n > EVENT_TYPE_MAX_BYTES || !utf8_ok(name) || memchr(name.p, '\n', name.n) ||
            memchr(name.p, '\r', name.n) || memchr(name.p, '\0', name.n)) {
            luaL_error(L, "%s: one line of at most %d bytes of UTF-8 was expected", what,
                       EVENT_TYPE_MAX_BYTES);
        }
    }
    return name; /* on the stack */
}

static void first_data(lua_State *L, int at, const char *what, struct verdict_draft *d)
{
    strbuf_reset(&d->first_data);
    int type = lua_shape_field(L, at, "data");
    if (type == LUA_TSTRING) {
        struct slice text = lua_shape_string(L, -1, what);
        if (!utf8_ok(text)) {
            luaL_error(L, "%s: not UTF-8", what);
        }
        if (strbuf_append(&d->first_data, text.p, text.n)) {
            first_too_long(L, what, d);
        }
    } else if (type == LUA_TTABLE) {
        lua_json_encode(L, lua_gettop(L), what, LUA_JSON_ANY, &d->first_data);
    } else {
        luaL_error(L, "%s: a string, or a table that becomes JSON, was expected, got %s", what,
                   lua_typename(L, type));
    }
}

/* stack: .., the entry -> .. */
static void first_entry(lua_State *L, lua_Integer i, struct verdict_draft *d)
{
    static const char *const keys[] = {"event", "data", NULL};
    char what[40], event[48], data[48];
    int at = lua_gettop(L);
    snprintf(what, sizeof what, "first[" LUA_INTEGER_FMT "]", i);
    snprintf(event, sizeof event, "%s.event", what);
    snprintf(data, sizeof data, "%s.data", what);
    lua_shape_closed(L, at, what, keys);
    struct sse_fields f = {.event = first_event(L, at, event)};
    first_data(L, at, data, d);
    f.data = strbuf_slice(&d->first_data);
    if (sse_frame_append(&f, &d->first)) {
        first_too_long(L, what, d);
    }
    lua_settop(L, at - 1);
}

void lua_first_read(lua_State *L, int t, struct verdict_draft *d)
{
    if (lua_shape_field(L, t, "first") != LUA_TNIL) {
        int list = lua_gettop(L);
        lua_Integer n = lua_shape_list(L, list, "first", "{event, data}", 0, FIRST_MAX);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, list, i);
            first_entry(L, i, d);
        }
    }
    lua_pop(L, 1);
}
