/* tg.jwt of policies: auth/keyring.h in Lua. */
#ifndef LUA_API_LUA_JWT_H
#define LUA_API_LUA_JWT_H

#include <lua.h>

/* tg.jwt(token, options) -> claims | nil, why. Ends the hook with a temporary refusal if the token
 * cannot be verified now. */
int lua_jwt(lua_State *L);

#endif
