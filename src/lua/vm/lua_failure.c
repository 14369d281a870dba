#include "lua/vm/lua_failure.h"

#include <stdio.h>
#include <string.h>

enum { TRACEBACK_FRAMES = 12 };

/* Appends to a fixed buffer; cuts what does not fit. */
static void lua_failure_append(char *out, size_t size, size_t *n, const char *text)
{
    int added = snprintf(out + *n, size - *n, "%s", text);
    size_t room = size - *n - 1;
    *n += added < 0 ? 0 : (size_t)added > room ? room : (size_t)added;
}

/* The sandbox's wrappers around library functions: a policy's author wants to see their caller. */
bool lua_failure_internal(const char *position)
{
    return strncmp(position, LUA_VM_INTERNAL, sizeof LUA_VM_INTERNAL - 1) == 0;
}

void lua_failure_frames(struct lua_vm_failure *f, lua_State *L, int level)
{
    lua_Debug ar;
    size_t n = 0;
    int shown = 0;
    memset(f, 0, sizeof *f);
    for (; shown < TRACEBACK_FRAMES && lua_getstack(L, level, &ar); level++) {
        if (!lua_getinfo(L, "Sln", &ar) || ar.currentline <= 0 ||
            lua_failure_internal(ar.short_src)) {
            continue;
        }
        char frame[256];
        snprintf(frame, sizeof frame, "%s%s:%d: in %s", shown ? "\n" : "", ar.short_src,
                 ar.currentline,
                 ar.name           ? ar.name
                 : *ar.what == 'm' ? "main chunk"
                                   : "function");
        lua_failure_append(f->traceback, sizeof f->traceback, &n, frame);
        if (shown == 0) {
            snprintf(f->where, sizeof f->where, "%s:%d", ar.short_src, ar.currentline);
        }
        shown++;
    }
}

/* __tostring of an error object is the script's code, and this is no place to run it. */
void lua_failure_error(struct lua_vm_failure *f, lua_State *L, int level, int idx)
{
    lua_failure_frames(f, L, level);
    if (lua_type(L, idx) == LUA_TSTRING) {
        const char *text = lua_tostring(L, idx);
        const char *rest = lua_failure_internal(text) ? strstr(text, ": ") : NULL;
        snprintf(f->text, sizeof f->text, "%s%s", rest ? f->where : "", rest ? rest : text);
    } else if (lua_isinteger(L, idx)) {
        snprintf(f->text, sizeof f->text, LUA_INTEGER_FMT, lua_tointeger(L, idx));
    } else {
        snprintf(f->text, sizeof f->text, "an error object that is a %s, not a text",
                 lua_typename(L, lua_type(L, idx)));
    }
}
