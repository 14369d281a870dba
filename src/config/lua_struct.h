/* Copies a table of settings (dotted path -> value) into a C struct described by a table of keys.
 * Helper of lua_config.c. */
#ifndef CONFIG_LUA_STRUCT_H
#define CONFIG_LUA_STRUCT_H

#include "base/err.h"
#include "base/slice.h"

#include <lua.h>
#include <stddef.h>

enum lua_config_type {
    LUA_CONFIG_INTEGER, /* int64_t */
    LUA_CONFIG_BOOLEAN, /* bool */
    LUA_CONFIG_TEXT,    /* char *, owned; NULL where the setting is false */
    LUA_CONFIG_LIST,    /* char **, owned, and a size_t count at `count_offset` */
    LUA_CONFIG_MAP,     /* array of structs that `entry` describes, owned, and the same count */
    LUA_CONFIG_ARRAY,   /* the same, of entries without names */
};

/* Where the setting of a dotted path lives in the struct. */
struct lua_config_key {
    const char *path;
    enum lua_config_type type;
    size_t offset, count_offset;
    const struct lua_config_entry *entry; /* of a map or an array */
};

/* An entry of a map or array: a struct of `size` bytes with, in a map, an owned char * at `name_offset`,
 * and settings whose paths are the names of the fields. Entries of a map are sorted by name. */
struct lua_config_entry {
    size_t size, name_offset;
    const struct lua_config_key *keys;
    size_t key_count;
};

/* A check that the schema refers to by name. 0, or a negative UV_E* with the reason in `e`. */
struct lua_config_format {
    const char *name; /* NULL ends an array */
    int (*check)(const char *text, struct err *e);
};

struct lua_config_spec {
    struct slice schema; /* Lua text that returns the schema: see scripts/lib/config_schema.lua */
    const struct lua_config_key *keys;
    size_t key_count;
    const struct lua_config_format *formats;
    struct slice defaults; /* the text to load when there is no file */
};

/* NULL when there is none of that path. */
const struct lua_config_key *lua_struct_find(const struct lua_config_spec *spec, const char *path);
/* Zeroes every key's place. */
void lua_struct_blank(const struct lua_config_spec *spec, void *out);
/* Frees what lua_struct_copy() put there, and zeroes it. */
void lua_struct_clear(const struct lua_config_spec *spec, void *out);

/* The two below raise Lua errors: call them protected. */

/* Schema and keys must mirror each other; raises an error with the path where they do not.
 * Stack: table of dotted path -> kind at -1; it is emptied. */
void lua_struct_check(lua_State *L, const struct lua_config_spec *spec);
/* Copies every key; after an error lua_struct_clear() frees what was copied so far.
 * Stack: table of dotted path -> value at -1, unchanged. */
void lua_struct_copy(lua_State *L, const struct lua_config_spec *spec, void *out);

#endif
