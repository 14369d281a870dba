/* The modules that specs of policies, and tools written in Lua, `require`: "tidegate.test.native"
 * (C: workbenches and their clients as userdata) and those of scripts/lib that build on it. For
 * trusted code in a state of its own, never for policies. */
#ifndef TOOLS_TEST_MODULE_H
#define TOOLS_TEST_MODULE_H

#include "config.h"

#include <lua.h>

/* Makes "tidegate.test", "tidegate.test.request", "tidegate.test.native" and "tidegate.eval" known
 * to `require`. The libraries must be open; `config` is borrowed for the life of the state. */
void test_module_preload(lua_State *L, const struct config *config);

#endif
