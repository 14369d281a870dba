/* The error of the last failed call into Lua: message, place and traceback, for people to read. No
 * function here allocates, raises or runs a metamethod. */
#ifndef LUA_VM_LUA_FAILURE_H
#define LUA_VM_LUA_FAILURE_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* Name (lua_load) of the broker's own chunks: never shown as the place of an error. */
#define LUA_VM_INTERNAL "sandbox.lua"

struct lua_vm_failure {
    char text[1024];      /* the error message, or what kind of value was raised */
    char where[128];      /* "geo.lua:14" of the innermost Lua frame; empty: none was running */
    char traceback[1536]; /* one frame per line, innermost first; may be empty */
    /* The text that a function refused as an argument: lua_vm_data_function(). The beginning, if it is cut. */
    char given[1024];
    size_t given_bytes;
    bool has_given, given_cut;
};

/* Does this position or message belong to one of the broker's own chunks? */
bool lua_failure_internal(const char *position);
/* The frames of `L` from `level` (lua_getstack) outwards; the text is left empty. */
void lua_failure_frames(struct lua_vm_failure *f, lua_State *L, int level);
/* The same, and what the error at `idx` says. */
void lua_failure_error(struct lua_vm_failure *f, lua_State *L, int level, int idx);

#endif
