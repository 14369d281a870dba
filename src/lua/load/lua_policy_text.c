#include "lua/load/lua_policy_text.h"

#include "base/program/read_file.h"
#include "lua/load/lua_sandbox.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lua hands strings over without their place. Where the text stands in the file as it is, and once,
 * that is the place; a text put together, or written with escapes, has none. */
static bool locate(const char *path, struct slice text, size_t offset, unsigned *line,
                   unsigned *column)
{
    struct strbuf file;
    strbuf_init(&file, LUA_FILE_MAX_BYTES);
    const char *at =
        read_file(path, &file) == 0 && text.n ? memmem(file.data, file.len, text.p, text.n) : NULL;
    size_t behind = at ? (size_t)(at - file.data) + 1 : 0;
    bool found = at && !memmem(file.data + behind, file.len - behind, text.p, text.n);
    *line = *column = 1;
    for (const char *p = file.data; found && p < at + offset; p++) {
        *column = *p == '\n' ? 1 : *column + 1;
        *line += *p == '\n';
    }
    strbuf_clear(&file);
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
