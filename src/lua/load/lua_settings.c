#include "lua/load/lua_settings.h"

#include "base/alloc.h"
#include "base/program/embedded.h"
#include "base/program/read_file.h"
#include "base/require.h"
#include "base/text/nearest.h"
#include "lua/vm/lua_failure.h"
#include "lua/vm/lua_secret.h"

#include <lauxlib.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    ROUNDS = 4000, /* a millisecond: the version is public, and must not help to guess a secret */
    VERSION_BYTES = 8,
    MARK_HEAD_BYTES = 64,                /* more than the name of a type and a number */
    SETTING_MAX_BYTES = 2 * 1024 * 1024, /* a list of 256 texts */
};

static const char check_key; /* its address: what lua_settings_check() calls, in the registry */

/* ---------------------------------------------------------------- what is given */

static bool is_secret(const struct policy_setting *g)
{
    return strncmp(g->type, "secret", strlen("secret")) == 0;
}

static struct slice text_of(const struct lua_setting *s)
{
    return s->content.data ? strbuf_slice(&s->content) : slice_str(s->given->text);
}

/* The final newline is the editor's, as in `keys`. */
static int read_content(struct lua_setting *s, struct lua_sources *sources, struct err *e)
{
    const char *path = s->given->text;
    if (lua_sources_add_data(sources, path)) {
        return err_set(e, UV_E2BIG, "policy.settings.%s: too many files", s->name);
    }
    int rc = read_file(path, &s->content);
    if (rc) {
        return err_set(e, rc, "policy.settings.%s: cannot read %s: %s", s->name, path,
                       rc == UV_ENOBUFS ? "larger than 4 KiB" : uv_strerror(rc));
    }
    struct strbuf *c = &s->content;
    c->len -= c->len > 0 && c->data[c->len - 1] == '\n';
    c->len -= c->len > 0 && c->data[c->len - 1] == '\r';
    return c->len ? 0 : err_set(e, UV_EINVAL, "policy.settings.%s: %s is empty", s->name, path);
}

/* PBKDF2 also where the value is no secret, then with one round: the same code for both. */
static int set_mark(struct lua_setting *s, struct err *e)
{
    struct strbuf all;
    const struct policy_setting *g = s->given;
    struct slice text = text_of(s);
    strbuf_init(&all, SETTING_MAX_BYTES);
    int rc = strbuf_reserve(&all, text.n + MARK_HEAD_BYTES);
    rc = rc ? rc : strbuf_printf(&all, "%s:%zu:", is_secret(g) ? "secret" : g->type, g->items.n);
    rc = rc ? rc : strbuf_append(&all, text.p, text.n);
    for (size_t i = 0; i < g->items.n && rc == 0; i++) {
        rc = strbuf_printf(&all, "%zu:%s", strlen(g->items.v[i]), g->items.v[i]);
    }
    struct slice in = strbuf_slice(&all);
    if (rc ||
        PKCS5_PBKDF2_HMAC(in.p, (int)in.n, (const unsigned char *)s->name, (int)strlen(s->name),
                          is_secret(g) ? ROUNDS : 1, EVP_sha256(), sizeof s->mark, s->mark) != 1) {
        rc = err_set(e, UV_ENOMEM, "policy.settings.%s: libcrypto cannot hash it", s->name);
    }
    strbuf_wipe(&all);
    return rc;
}

static int lua_settings_add(struct lua_settings *all, const struct policy_setting *given,
                            struct lua_sources *sources, struct err *e)
{
    struct lua_setting *s = &all->v[all->n++];
    *s = (struct lua_setting){.name = xstrdup(given->name), .given = given};
    strbuf_init(&s->content, POLICY_SETTING_MAX_BYTES);
    int rc = strcmp(given->type, "secret_file") == 0 ? read_content(s, sources, e) : 0;
    rc = rc ? rc : set_mark(s, e);
    if (rc == 0 &&
        (lua_sources_hash(sources, s->name, slice_of((const char *)s->mark, VERSION_BYTES)))) {
        rc = err_set(e, UV_ENOMEM, "policy.settings.%s: libcrypto cannot hash it", s->name);
    }
    return rc;
}

int lua_settings_read(struct lua_settings *s, const struct policy_setting *given, size_t n,
                      struct lua_sources *sources, struct err *e)
{
    int rc = 0;
    *s = (struct lua_settings){.v = n ? xcalloc(n, sizeof *s->v) : NULL};
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = lua_settings_add(s, &given[i], sources, e);
    }
    return rc;
}

void lua_settings_forget(struct lua_settings *s)
{
    for (size_t i = 0; i < s->n; i++) {
        strbuf_wipe(&s->v[i].content);
        s->v[i].given = NULL;
    }
}

void lua_settings_clear(struct lua_settings *s)
{
    lua_settings_forget(s);
    for (size_t i = 0; i < s->n; i++) {
        free(s->v[i].name);
    }
    free(s->v);
    *s = (struct lua_settings){NULL, 0};
}

size_t lua_settings_changed(const struct lua_settings *before, const struct lua_settings *after,
                            const char **out)
{
    size_t n = 0, a = 0, b = 0;
    while (a < before->n || b < after->n) {
        int order = a == before->n  ? 1
                    : b == after->n ? -1
                                    : strcmp(before->v[a].name, after->v[b].name);
        if (order || memcmp(before->v[a].mark, after->v[b].mark, LUA_SETTING_MARK_BYTES) != 0) {
            out[n++] = order > 0 ? after->v[b].name : before->v[a].name;
        }
        a += order <= 0;
        b += order >= 0;
    }
    return n;
}

/* ---------------------------------------------------------------- what the script is given */

/* secret(name, text) */
static int host_secret(lua_State *L)
{
    struct slice name, text;
    name.p = luaL_checklstring(L, 1, &name.n);
    text.p = luaL_checklstring(L, 2, &text.n);
    lua_secret_push(L, name, text);
    return 1;
}

/* nearest(word, names) -> name | nil */
static int host_nearest(lua_State *L)
{
    const char *names[POLICY_SETTINGS_MAX];
    size_t n = 0;
    struct slice word;
    word.p = luaL_checklstring(L, 1, &word.n);
    lua_settop(L, 2);
    for (; n < POLICY_SETTINGS_MAX && lua_rawgeti(L, 2, (lua_Integer)n + 1) == LUA_TSTRING; n++) {
        names[n] = lua_tostring(L, -1); /* the list keeps it */
        lua_pop(L, 1);
    }
    lua_pushstring(L, nearest_name(names, n, word));
    return 1;
}

/* stack: +1 { type =, text =, size =, items = } */
static void push_given(lua_State *L, const struct lua_setting *s)
{
    const struct policy_setting *g = s->given;
    struct slice text = text_of(s);
    bool secret = is_secret(g);
    lua_createtable(L, 0, 4);
    lua_pushstring(L, secret ? "secret" : g->type);
    lua_setfield(L, -2, "type");
    if (secret) {
        lua_secret_push(L, slice_str(s->name), text);
    } else {
        lua_pushlstring(L, text.p, text.n);
    }
    lua_setfield(L, -2, "text");
    lua_pushinteger(L, (lua_Integer)text.n);
    lua_setfield(L, -2, "size");
    lua_createtable(L, (int)g->items.n, 0);
    for (size_t i = 0; i < g->items.n; i++) {
        lua_pushstring(L, g->items.v[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "items");
}

/* stack: +1 name -> the above */
static void push_given_all(lua_State *L, const struct lua_settings *s)
{
    lua_newtable(L);
    for (size_t i = 0; s && i < s->n; i++) {
        push_given(L, &s->v[i]);
        lua_setfield(L, -2, s->v[i].name);
    }
}

void lua_settings_open(lua_State *L, const struct lua_settings *s, lua_CFunction readonly)
{
    static const char chunk[] = "@" LUA_VM_INTERNAL " (settings)";
    const struct embedded *file = embedded_find("scripts/lib/sandbox_settings.lua");
    REQUIRE(file != NULL);
    luaL_checkstack(L, 10, NULL);
    if (luaL_loadbufferx(L, file->data, file->size, chunk, "t") != LUA_OK) {
        lua_error(L);
    }
    const luaL_Reg functions[] = {
        {"secret", host_secret}, {"nearest", host_nearest}, {"readonly", readonly}, {NULL, NULL}};
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    push_given_all(L, s);
    lua_setfield(L, -2, "given");
    lua_call(L, 1, 2); /* stack: tg, settings, check */
    lua_rawsetp(L, LUA_REGISTRYINDEX, &check_key);
    lua_setfield(L, -2, "settings");
}

/* stack: a declaration */
static void lua_settings_copy(lua_State *L, const char *key, char *out, size_t size)
{
    lua_getfield(L, -1, key);
    const char *text = lua_tostring(L, -1);
    snprintf(out, size, "%s", text ? text : "");
    lua_pop(L, 1);
}

size_t lua_settings_check(lua_State *L, struct policy_declared out[POLICY_SETTINGS_MAX])
{
    size_t n = 0;
    int top = lua_gettop(L);
    luaL_checkstack(L, 5, NULL);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &check_key);
    lua_call(L, 0, 1); /* stack: list */
    for (; n < POLICY_SETTINGS_MAX && lua_rawgeti(L, -1, (lua_Integer)n + 1) == LUA_TTABLE; n++) {
        lua_settings_copy(L, "name", out[n].name, sizeof out[n].name);
        lua_settings_copy(L, "type", out[n].type, sizeof out[n].type);
        lua_settings_copy(L, "from", out[n].from, sizeof out[n].from);
        lua_pop(L, 1);
    }
    lua_settop(L, top);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &check_key);
    return n;
}
