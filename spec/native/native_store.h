/* Parts of the binding native.store; each adds functions to the module on top of the stack. */
#ifndef SPEC_NATIVE_STORE_H
#define SPEC_NATIVE_STORE_H

#include "native.h"

/* sql(file), writer{...}: what other programs do to the file of a store. */
void native_store_sql(lua_State *L);
/* vfs_fail{...}: makes SQLite's files fail. */
void native_store_vfs(lua_State *L);

#endif
