#include "lua/policy/lua_policy_text.h"

#include "lua/policy/lua_sandbox.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* At most LUA_FILE_MAX_BYTES of the file; NULL when it cannot be read. free() it. */
static char *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *text = f ? malloc(LUA_FILE_MAX_BYTES) : NULL;
    *n = text ? fread(text, 1, LUA_FILE_MAX_BYTES, f) : 0;
    if (f) {
        fclose(f);
    }
    return text;
}

/* Lua hands strings over without their place. Where the text stands in the file as it is, and once,
 * that is the place; a text put together, or written with escapes, has none. */
static bool locate(const char *path, struct slice text, size_t offset, unsigned *line,
                   unsigned *column)
{
    size_t n;
    char *file = read_all(path, &n);
    const char *at = file && text.n ? memmem(file, n, text.p, text.n) : NULL;
    size_t behind = at ? (size_t)(at - file) + 1 : 0;
    bool found = at && !memmem(file + behind, n - behind, text.p, text.n);
    *line = *column = 1;
    for (const char *p = file; found && p < at + offset; p++) {
        *column = *p == '\n' ? 1 : *column + 1;
        *line += *p == '\n';
    }
    free(file);
    return found;
}

const struct filter *lua_policy_text_compile(lua_State *L, struct filter_set *set,
                                             const struct lua_policy_source *source,
                                             const char *name, struct slice text, char *where,
                                             size_t where_size)
{
    struct filter_error e;
    unsigned line, column;
    const struct filter *m = filter_compile(set, text, &e);
    bool found = locate(source->path, text, m ? 0 : e.offset, &line, &column);
    if (!m && found) {
        luaL_error(L, "%s:%d:%d: filter '%s': %s", source->chunk, (int)line, (int)column, name,
                   e.text);
    }
    if (!m) {
        luaL_error(L, "filter '%s': line %d, column %d of its text: %s", name, (int)e.line,
                   (int)e.column, e.text);
    }
    if (found) {
        snprintf(where, where_size, "%s:%u", source->chunk, line);
    } else {
        snprintf(where, where_size, "%s", source->chunk);
    }
    return m;
}
