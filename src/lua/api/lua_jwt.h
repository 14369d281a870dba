/* tg.jwt of policies: what auth/keyring.h knows, in Lua values. */
#ifndef LUA_API_LUA_JWT_H
#define LUA_API_LUA_JWT_H

#include <lua.h>

/* tg.jwt(token, options) -> claims | nil, why. Ends the hook as transient where nothing can be said
 * about the token now. */
int lua_jwt(lua_State *L);

#endif
