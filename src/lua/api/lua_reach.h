/* tg.ask_again(tag), tg.end_streams(tag, reason): what `observe` orders about open streams. They only
 * write it down, in the host's `effects`; the broker acts when observe has returned. */
#ifndef LUA_API_LUA_REACH_H
#define LUA_API_LUA_REACH_H

#include "base/slice.h"

#include <lua.h>

int lua_reach_ask_again(lua_State *L);
int lua_reach_end_streams(lua_State *L);

/* NULL when `tag` may be the tag of a stream, else a constant text that says what was expected. */
const char *lua_reach_tag_check(struct slice tag);
/* The same for a text of any length, which operators will be shown. */
const char *lua_reach_text_check(struct slice text);

#endif
