/* See lua_struct.h. */
#include "config/lua_struct.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

const struct lua_config_key *lua_struct_find(const struct lua_config_spec *spec, const char *path)
{
    for (size_t i = 0; i < spec->key_count; i++) {
        if (strcmp(spec->keys[i].path, path) == 0) {
            return &spec->keys[i];
        }
    }
    return NULL;
}

static const char *lua_struct_kind_of(enum lua_config_type type)
{
    static const char *const kinds[] = {"integer", "boolean", "text", "list", "map", "array"};
    return kinds[type];
}

/* `map`: the path of the map or array whose entries `keys` describe; NULL: they are the settings.
 * Stack: kinds at `kinds`; what is checked is taken out of it. */
static void check_keys(lua_State *L, int kinds, const char *map, const struct lua_config_key *keys,
                       size_t n)
{
    for (const struct lua_config_key *key = keys; key < keys + n; key++) {
        const char *path =
            map ? lua_pushfstring(L, "%s.*.%s", map, key->path) : lua_pushstring(L, key->path);
        lua_pushvalue(L, -1);
        lua_rawget(L, kinds); /* path, kind */
        const char *kind = lua_tostring(L, -1);
        if (!kind) {
            luaL_error(L, "%s is in the struct but not in the schema", path);
        } else if (strcmp(kind, lua_struct_kind_of(key->type)) != 0) {
            luaL_error(L, "%s is of kind %s in the schema, %s in the struct", path, kind,
                       lua_struct_kind_of(key->type));
        }
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, kinds); /* path */
        if (key->entry) {
            check_keys(L, kinds, path, key->entry->keys, key->entry->key_count);
        }
        lua_pop(L, 1); /* the path */
    }
}

void lua_struct_check(lua_State *L, const struct lua_config_spec *spec)
{
    int kinds = lua_absindex(L, -1);
    check_keys(L, kinds, NULL, spec->keys, spec->key_count);
    lua_pushnil(L);
    if (lua_next(L, -2)) { /* kinds, path, kind */
        luaL_error(L, "%s is in the schema but not in the struct", lua_tostring(L, -2));
    }
    lua_settop(L, kinds);
}

static void *lua_struct_at(void *out, size_t offset)
{
    return (char *)out + offset;
}

/* A copy of the text at -1, popped; raises when memory is short. */
static char *take_text(lua_State *L)
{
    size_t n;
    const char *text = lua_tolstring(L, -1, &n);
    char *copy = text ? strndup(text, n) : NULL;
    if (!copy) {
        luaL_error(L, "no memory for a text of %d bytes", (int)n);
    }
    lua_pop(L, 1);
    return copy;
}

/* Room for `n` items of `size` bytes, zeroed; NULL for none; raises when memory is short. */
static void *new_items(lua_State *L, size_t n, size_t size)
{
    void *items = n ? calloc(n, size) : NULL;
    if (!items && n) {
        luaL_error(L, "no memory for a list of %d", (int)n);
    }
    return items;
}

/* `*count` is right at every moment, so that a raise leaves a list that can be freed. */
static void copy_list(lua_State *L, char ***items, size_t *count)
{
    size_t n = (size_t)lua_rawlen(L, -1);
    *items = new_items(L, n, sizeof **items);
    for (size_t i = 0; *items && i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        (*items)[i] = take_text(L);
        *count = i + 1;
    }
}

static void copy_keys(lua_State *L, const struct lua_config_key *keys, size_t n, void *out);

/* The same for a list of tables. */
static void copy_map(lua_State *L, const struct lua_config_entry *entry, bool named, void **items,
                     size_t *count)
{
    size_t n = (size_t)lua_rawlen(L, -1);
    *items = new_items(L, n, entry->size);
    for (size_t i = 0; *items && i < n; i++) {
        void *item = lua_struct_at(*items, i * entry->size);
        *count = i + 1;
        lua_rawgeti(L, -1, (lua_Integer)i + 1); /* list, table */
        if (named) {
            lua_getfield(L, -1, "name");
            *(char **)lua_struct_at(item, entry->name_offset) = take_text(L);
        }
        copy_keys(L, entry->keys, entry->key_count, item);
        lua_pop(L, 1);
    }
}

/* Stack: table of path -> value at -1, unchanged. */
static void copy_keys(lua_State *L, const struct lua_config_key *keys, size_t n, void *out)
{
    for (const struct lua_config_key *key = keys; key < keys + n; key++) {
        if (lua_getfield(L, -1, key->path) == LUA_TNIL) {
            luaL_error(L, "%s has no value", key->path);
        }
        void *to = lua_struct_at(out, key->offset);
        switch (key->type) {
        case LUA_CONFIG_INTEGER:
            *(int64_t *)to = (int64_t)lua_tointeger(L, -1);
            break;
        case LUA_CONFIG_BOOLEAN:
            *(bool *)to = lua_toboolean(L, -1);
            break;
        case LUA_CONFIG_TEXT:
            if (lua_type(L, -1) == LUA_TSTRING) {
                lua_pushvalue(L, -1);
                *(char **)to = take_text(L);
            }
            break;
        case LUA_CONFIG_LIST:
            copy_list(L, to, lua_struct_at(out, key->count_offset));
            break;
        case LUA_CONFIG_MAP:
        case LUA_CONFIG_ARRAY:
            copy_map(L, key->entry, key->type == LUA_CONFIG_MAP, to,
                     lua_struct_at(out, key->count_offset));
            break;
        }
        lua_pop(L, 1);
    }
}

void lua_struct_copy(lua_State *L, const struct lua_config_spec *spec, void *out)
{
    copy_keys(L, spec->keys, spec->key_count, out);
}

static void blank_keys(const struct lua_config_key *keys, size_t n, void *out)
{
    for (const struct lua_config_key *key = keys; key < keys + n; key++) {
        void *to = lua_struct_at(out, key->offset);
        switch (key->type) {
        case LUA_CONFIG_INTEGER:
            *(int64_t *)to = 0;
            break;
        case LUA_CONFIG_BOOLEAN:
            *(bool *)to = false;
            break;
        case LUA_CONFIG_TEXT:
            *(char **)to = NULL;
            break;
        case LUA_CONFIG_LIST:
        case LUA_CONFIG_MAP:
        case LUA_CONFIG_ARRAY:
            *(void **)to = NULL;
            *(size_t *)lua_struct_at(out, key->count_offset) = 0;
            break;
        }
    }
}

void lua_struct_blank(const struct lua_config_spec *spec, void *out)
{
    blank_keys(spec->keys, spec->key_count, out);
}

/* Any of them may be a secret: a key, a password in a conninfo, a header. */
static void free_text(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
    }
    free(text);
}

static void clear_list(char **items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free_text(items[i]);
    }
    free(items);
}

static void clear_keys(const struct lua_config_key *keys, size_t n, void *out);

static void clear_map(const struct lua_config_entry *entry, bool named, void *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *item = lua_struct_at(items, i * entry->size);
        if (named) {
            free(*(char **)lua_struct_at(item, entry->name_offset));
        }
        clear_keys(entry->keys, entry->key_count, item);
    }
    free(items);
}

static void clear_keys(const struct lua_config_key *keys, size_t n, void *out)
{
    for (const struct lua_config_key *key = keys; key < keys + n; key++) {
        void *to = lua_struct_at(out, key->offset);
        if (key->type == LUA_CONFIG_TEXT) {
            free_text(*(char **)to);
        } else if (key->type == LUA_CONFIG_LIST) {
            clear_list(*(char ***)to, *(size_t *)lua_struct_at(out, key->count_offset));
        } else if (key->type == LUA_CONFIG_MAP || key->type == LUA_CONFIG_ARRAY) {
            clear_map(key->entry, key->type == LUA_CONFIG_MAP, *(void **)to,
                      *(size_t *)lua_struct_at(out, key->count_offset));
        }
    }
}

void lua_struct_clear(const struct lua_config_spec *spec, void *out)
{
    clear_keys(spec->keys, spec->key_count, out);
    blank_keys(spec->keys, spec->key_count, out);
}
