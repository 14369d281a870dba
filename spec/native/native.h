/* Native bindings of C modules for the specs. Each native_X.c binds one or a few modules and is
 * listed here and in CMakeLists.txt; Lua gets it with require "native.X". */
#ifndef SPEC_NATIVE_H
#define SPEC_NATIVE_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

/* X(name): luaopen function native_open_<name>, module "native.<name>" */
#define NATIVE_MODULES(X)                                                                          \
    X(address)                                                                                     \
    X(admin)                                                                                       \
    X(audience)                                                                                    \
    X(base)                                                                                        \
    X(budget)                                                                                      \
    X(coro)                                                                                        \
    X(config)                                                                                      \
    X(publish_body)                                                                                \
    X(event)                                                                                       \
    X(h2)                                                                                          \
    X(http)                                                                                        \
    X(http_client)                                                                                 \
    X(jwt)                                                                                         \
    X(keyring)                                                                                     \
    X(loop)                                                                                        \
    X(log)                                                                                         \
    X(lua_vm)                                                                                      \
    X(filter)                                                                                      \
    X(gzip)                                                                                        \
    X(pg)                                                                                          \
    X(pattern)                                                                                     \
    X(policy)                                                                                      \
    X(query)                                                                                       \
    X(quota)                                                                                       \
    X(remote)                                                                                      \
    X(sockets)                                                                                     \
    X(store)                                                                                       \
    X(tls)                                                                                         \
    X(tls_record)                                                                                  \
    X(topic)                                                                                       \
    X(workers)

#define X(name) int native_open_##name(lua_State *L);
NATIVE_MODULES(X)
#undef X

/* The metatable of userdata with that name: `methods`, of which "__gc" and the like work, too. */
static inline void native_class(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

#endif
