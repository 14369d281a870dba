/* Runs a configuration file in a bare Lua state of its own, checks what it returned against a
 * schema, and copies the settings into a C struct. Called once by config.c; knows no setting.
 *
 * The file sees env(name[, default]) and nothing else, is text (no bytecode), and has a budget of
 * instructions and memory: a mistake in it is a message, never a hang. */
#ifndef CONFIG_LUA_CONFIG_H
#define CONFIG_LUA_CONFIG_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strbuf.h"

#include <stddef.h>

enum lua_config_type {
    LUA_CONFIG_INTEGER, /* int64_t */
    LUA_CONFIG_BOOLEAN, /* bool */
    LUA_CONFIG_TEXT,    /* char *, owned; NULL where the setting is false */
    LUA_CONFIG_LIST,    /* char **, owned, and a size_t count at `count_offset` */
    LUA_CONFIG_MAP,     /* array of structs that `entry` describes, owned, and the same count */
};

/* Where the setting of a dotted path lives in the struct. */
struct lua_config_key {
    const char *path;
    enum lua_config_type type;
    size_t offset, count_offset;
    const struct lua_config_entry *entry; /* of a map */
};

/* What an entry of a map is: a struct of `size` bytes with a char * at `name_offset`, owned, and
 * settings whose paths are the names of the fields. Entries are in the order of their names. */
struct lua_config_entry {
    size_t size, name_offset;
    const struct lua_config_key *keys; /* no maps among them */
    size_t key_count;
};

/* A check that the schema refers to by name. 0, or a negative UV_E* with the reason in `e`. */
struct lua_config_format {
    const char *name; /* NULL ends an array */
    int (*check)(const char *text, struct err *e);
};

/* A setting given on the command line. It replaces the file's and obeys the same rules; messages
 * name the option. */
struct lua_config_override {
    const char *option, *path;
    const char *const *values;
    size_t n; /* of a list setting: any; of a text: 1, or 0 for false */
};

struct lua_config_spec {
    struct slice schema; /* Lua text that returns the schema: see scripts/lib/config_schema.lua */
    const struct lua_config_key *keys;
    size_t key_count;
    const struct lua_config_format *formats;
    struct slice defaults; /* what stands for a file where there is none */
};

/* 0, or
 *   UV_EINVAL  the file has problems: all of them are in `problems`, one a line
 *   other      the program is at fault (UV_EFAULT: schema and keys differ) or memory is short;
 *              `problems` says what
 * On failure nothing in `out` is left to free. `out` is overwritten where keys point. */
/* `path` NULL: `spec->defaults`. */
int lua_config_load(const struct lua_config_spec *spec, const char *path,
                    const struct lua_config_override *overrides, size_t override_count, void *out,
                    struct strbuf *problems);
/* Frees what lua_config_load() put into `out`, and zeroes it. */
void lua_config_clear(const struct lua_config_spec *spec, void *out);
/* The schema as Markdown, appended to `out`. */
int lua_config_reference(const struct lua_config_spec *spec, struct strbuf *out);
/* "Lua 5.4.x", the library this program was built with. */
const char *lua_config_lua_release(void);

#endif
