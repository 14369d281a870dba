/* See lua_struct.h. */
#include "lua/lua_struct.h"

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

static const char *kind_of(enum lua_config_type type)
{
    static const char *const kinds[] = {"integer", "boolean", "text", "list"};
    return kinds[type];
}

void lua_struct_check(lua_State *L, const struct lua_config_spec *spec)
{
    int kinds = lua_absindex(L, -1);
    for (size_t i = 0; i < spec->key_count; i++) {
        const struct lua_config_key *key = &spec->keys[i];
        lua_getfield(L, -1, key->path); /* kinds, kind */
        const char *kind = lua_tostring(L, -1);
        if (!kind) {
            luaL_error(L, "%s is in the struct but not in the schema", key->path);
        } else if (strcmp(kind, kind_of(key->type)) != 0) {
            luaL_error(L, "%s is of kind %s in the schema, %s in the struct", key->path, kind,
                       kind_of(key->type));
        }
        lua_pop(L, 1);
        lua_pushnil(L);
        lua_setfield(L, -2, key->path);
    }
    lua_pushnil(L);
    if (lua_next(L, -2)) { /* kinds, path, kind */
        luaL_error(L, "%s is in the schema but not in the struct", lua_tostring(L, -2));
    }
    lua_settop(L, kinds);
}

static void *at(void *out, size_t offset)
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

/* `*count` is right at every moment, so that a raise leaves a list that can be freed. */
static void copy_list(lua_State *L, char ***items, size_t *count)
{
    size_t n = (size_t)lua_rawlen(L, -1);
    *items = n ? calloc(n, sizeof **items) : NULL;
    if (!*items) {
        if (n) {
            luaL_error(L, "no memory for a list of %d", (int)n);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        (*items)[i] = take_text(L);
        *count = i + 1;
    }
}

void lua_struct_copy(lua_State *L, const struct lua_config_spec *spec, void *out)
{
    for (size_t i = 0; i < spec->key_count; i++) {
        const struct lua_config_key *key = &spec->keys[i];
        if (lua_getfield(L, -1, key->path) == LUA_TNIL) {
            luaL_error(L, "%s has no value", key->path);
        }
        void *to = at(out, key->offset);
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
            copy_list(L, to, at(out, key->count_offset));
            break;
        }
        lua_pop(L, 1);
    }
}

void lua_struct_blank(const struct lua_config_spec *spec, void *out)
{
    for (size_t i = 0; i < spec->key_count; i++) {
        const struct lua_config_key *key = &spec->keys[i];
        void *to = at(out, key->offset);
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
            *(char ***)to = NULL;
            *(size_t *)at(out, key->count_offset) = 0;
            break;
        }
    }
}

void lua_struct_clear(const struct lua_config_spec *spec, void *out)
{
    for (size_t i = 0; i < spec->key_count; i++) {
        const struct lua_config_key *key = &spec->keys[i];
        void *to = at(out, key->offset);
        if (key->type == LUA_CONFIG_TEXT) {
            free(*(char **)to);
        } else if (key->type == LUA_CONFIG_LIST) {
            char **items = *(char ***)to;
            for (size_t k = 0; k < *(size_t *)at(out, key->count_offset); k++) {
                free(items[k]);
            }
            free(items);
        }
    }
    lua_struct_blank(spec, out);
}
