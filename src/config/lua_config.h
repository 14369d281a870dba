/* Runs a configuration file in a bare Lua state of its own, checks what it returned against a
 * schema, and copies the settings into a C struct. Called once by config.c; knows no setting.
 *
 * The file sees env(name[, default]) and nothing else, is text (no bytecode), and has a budget of
 * instructions and memory: a mistake in it results in a message, never in a hang. */
#ifndef CONFIG_LUA_CONFIG_H
#define CONFIG_LUA_CONFIG_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strbuf.h"
#include "config/lua_struct.h"

#include <stdbool.h>
#include <stddef.h>

/* A setting given on the command line. It replaces that of the file and is checked by the same rules;
 * messages name the option. */
struct lua_config_override {
    const char *option, *path;
    const char *const *values;
    size_t n; /* of a list setting: any; of a text: 1, or 0 for false */
};

/* Loads `path`; NULL: `spec->defaults`. 0, or
 *   UV_EINVAL  the file has problems: all of them are in `problems`, one per line, with file and line
 *              where they have one
 *   other      the program has a defect (UV_EFAULT: schema and keys differ) or memory is short;
 *              `problems` says what
 * On failure nothing in `out` is left to free. `out` is overwritten where keys point.
 * `salvaged` may be NULL. Else UV_EINVAL may set it: then `out` has what is right of the file, and is the
 * caller's to clear. Defaults stand for settings that are wrong, an empty text for one that has none;
 * wrong entries of lists are left out. */
int lua_config_load(const struct lua_config_spec *spec, const char *path,
                    const struct lua_config_override *overrides, size_t override_count, void *out,
                    struct strbuf *problems, bool *salvaged);
/* The line of the file where a setting stands, such as "listen[2].tls"; 0: that cannot be told. */
int lua_config_line(const char *path, const char *label);
/* Frees the settings in `out`, and zeroes them. */
void lua_config_clear(const struct lua_config_spec *spec, void *out);
/* The schema as Markdown, appended to `out`. */
int lua_config_reference(const struct lua_config_spec *spec, struct strbuf *out);
/* "Lua 5.4.x", the library this program was built with. */
const char *lua_config_lua_release(void);

#endif
