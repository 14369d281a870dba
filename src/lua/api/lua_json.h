/* JSON <-> Lua values, without surprises: 64-bit integers exact, arrays and objects distinct,
 * duplicate keys refused, depth bounded, null is json.null. Functions that take a lua_State run
 * inside a body and may raise. */
#ifndef LUA_API_LUA_JSON_H
#define LUA_API_LUA_JSON_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <lua.h>

enum {
    LUA_JSON_DEPTH_MAX = 64,
    LUA_JSON_DECODE_MAX_BYTES = 4 * 1024 * 1024, /* of text: its tree is not in the Lua heap */
};

enum lua_json_result {
    LUA_JSON_OK,
    LUA_JSON_NOT_JSON, /* a syntax error */
    LUA_JSON_REFUSED,  /* JSON, but ambiguous or too large: duplicate key, number range, depth */
};

struct lua_json_error {
    char text[224];
};

/* Pushes the value when LUA_JSON_OK; else pushes nothing and sets `why`. */
enum lua_json_result lua_json_decode(lua_State *L, struct slice text, struct lua_json_error *why);

enum lua_json_shape {
    LUA_JSON_ANY,
    LUA_JSON_OBJECT_OF_SCALARS, /* string, number or boolean; a table is an object even if empty */
    LUA_JSON_OBJECT_OF_LISTS,   /* as above, or lists of them; a table inside is a list */
};

/* Appends the value at `idx` as compact JSON with sorted keys: equal values give equal bytes. Raw
 * access only. Raises an error that names the place below `root` for a value that has no JSON form or
 * does not fit into `out`. */
void lua_json_encode(lua_State *L, int idx, const char *root, enum lua_json_shape shape,
                     struct strbuf *out);

/* Marks the table on top of the stack as an array, so that [] stays []. */
void lua_json_mark_array(lua_State *L);
bool lua_json_is_array(lua_State *L, int idx);

/* Pushes the library table `json` of policies. */
void lua_json_open(lua_State *L);

#endif
