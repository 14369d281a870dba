/* Secrets of the configuration as Lua values: they can be used as keys, compared, and sent in headers
 * and bodies of HTTP requests, and they show nothing. tostring() gives "<secret NAME>", `..` makes a
 * longer secret, and whatever wants a string raises an error. */
#ifndef LUA_VM_LUA_SECRET_H
#define LUA_VM_LUA_SECRET_H

#include "base/slice.h"

#include <lua.h>

/* Inside a body, once per state before the first push: makes the metatable. */
void lua_secret_open(lua_State *L);
/* Pushes a new one; copies both. */
void lua_secret_push(lua_State *L, struct slice name, struct slice bytes);
/* The bytes of the secret at `idx`, borrowed while Lua holds it; absent: it is none. */
struct slice lua_secret_bytes(lua_State *L, int idx);
/* Of a secret, or a string: what may be a key, or be sent. Raises "WHAT: a secret or a string was
 * expected, got ...". */
struct slice lua_secret_or_string(lua_State *L, int idx, const char *what);

/* What messages call the value at `idx`: "secret", or the name of its type. */
const char *lua_secret_typename(lua_State *L, int idx);

/* tg.equal(a, b): in constant time */
int lua_secret_equal(lua_State *L);
/* tg.hmac(key, text, { alg =, as = }) */
int lua_secret_hmac(lua_State *L);

#endif
