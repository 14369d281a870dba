/* The environment of policy files: scripts/lib/sandbox.lua runs in the raw state and leaves only
 * its allow-list; files are loaded as text from below one directory. */
#ifndef LUA_LOAD_LUA_SANDBOX_H
#define LUA_LOAD_LUA_SANDBOX_H

#include "base/err.h"
#include "lua/vm/lua_host.h"

enum { LUA_FILE_MAX_BYTES = 1024 * 1024 };

/* Makes the sandbox the globals of the vm, and `host` its host. */
int lua_sandbox_open(struct lua_vm *vm, struct lua_host *host, struct err *e);

/* Inside a body: pushes the compiled file (text only, never bytecode); errors name `chunk`. */
void lua_sandbox_load(lua_State *L, const char *path, const char *chunk);

#endif
