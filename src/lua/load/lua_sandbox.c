#include "lua/load/lua_sandbox.h"

#include "base/program/embedded.h"
#include "base/require.h"
#include "lua/api/lua_api.h"
#include "lua/api/lua_event.h"
#include "lua/load/lua_cover.h"
#include "lua/load/lua_settings.h"
#include "lua/load/lua_sources.h"
#include "lua/vm/lua_box.h"
#include "lua/vm/lua_pcall.h"
#include "lua/vm/lua_readonly.h"
#include "lua/vm/lua_secret.h"
#include "lua/vm/lua_string.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char modules_key; /* its address: what `require` has loaded, in the registry */

/* ---- files */

static void note_source(lua_State *L, const char *path, const struct stat *st)
{
    const struct lua_host *s = lua_vm_host(L);
    if (s->sources && lua_sources_add(s->sources, path, st)) {
        luaL_error(L, "more than %d files", LUA_SOURCES_MAX);
    }
}

static void read_file(lua_State *L, struct lua_box *box, const char *path, const char *chunk)
{
    struct stat st = {0};
    box->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang the start */
    if (box->fd < 0 || fstat(box->fd, &st)) {
        int why = errno;
        note_source(L, path, NULL);
        luaL_error(L, "cannot read %s: %s", chunk, strerror(why));
    }
    note_source(L, path, &st);
    if (!S_ISREG(st.st_mode)) {
        luaL_error(L, "cannot read %s: a regular file was expected", chunk);
    }
    for (;;) {
        if (strbuf_reserve(&box->text, 4096)) {
            luaL_error(L, "%s is longer than %d bytes", chunk, LUA_FILE_MAX_BYTES);
        }
        ssize_t n = read(box->fd, box->text.data + box->text.len, 4096);
        if (n < 0 && errno != EINTR) {
            luaL_error(L, "cannot read %s: %s", chunk, strerror(errno));
        }
        if (n == 0) {
            return;
        }
        box->text.len += n > 0 ? (size_t)n : 0;
    }
}

void lua_sandbox_load(lua_State *L, const char *path, const char *chunk)
{
    struct lua_box *box = lua_box_push(L, LUA_FILE_MAX_BYTES + 4096); /* stack: box */
    int at = lua_gettop(L);
    read_file(L, box, path, chunk);
    const struct lua_host *s = lua_vm_host(L);
    if (s->sources && lua_sources_hash(s->sources, chunk, strbuf_slice(&box->text))) {
        luaL_error(L, "%s: libcrypto cannot hash it", chunk);
    }
    if (s->cover) {
        s->cover->loaded(s->cover->ctx, s, path, chunk);
    }
    const char *name = lua_pushfstring(L, "@%s", chunk);                    /* stack: box, name */
    int rc = luaL_loadbufferx(L, box->text.data, box->text.len, name, "t"); /* .., function */
    if (rc != LUA_OK) {
        lua_error(L);
    }
    lua_closeslot(L, at);
    lua_replace(L, at);
    lua_settop(L, at); /* stack: function */
}

/* "a.b_1": words joined by single dots. */
static bool module_name_ok(const char *name)
{
    size_t in_word = 0;
    for (; *name; name++) {
        bool word = (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
                    (*name >= '0' && *name <= '9') || *name == '_';
        if (!word && (*name != '.' || in_word == 0)) {
            return false;
        }
        in_word = word ? in_word + 1 : 0;
    }
    return in_word > 0;
}

/* Where the module's file really is, if there is one in `dir`; raises unless that is below it. */
static bool resolve_module_in(lua_State *L, const char *root, const char *name,
                              char asked[PATH_MAX], char path[PATH_MAX])
{
    const struct lua_host *s = lua_vm_host(L);
    size_t dir = strlen(root);
    int n = snprintf(asked, PATH_MAX, "%s/%s.lua", root, name);
    if (n < 0 || n >= PATH_MAX) {
        luaL_error(L, "module '%s': the path is too long", name);
    }
    for (char *c = asked + dir + 1; c < asked + n - 4; c++) {
        *c = *c == '.' ? '/' : *c;
    }
    if (!realpath(asked, path)) {
        int why = errno;
        note_source(L, asked, NULL); /* should it appear later, that is news */
        errno = why;
        if (why != ENOENT && why != ENOTDIR) {
            luaL_error(L, "module '%s' not found: %s: %s", name, asked, strerror(why));
        }
        return false;
    }
    if (strncmp(path, root, dir) != 0 || (path[dir] != '/' && strcmp(root, "/") != 0)) {
        luaL_error(L, "module '%s' is outside the %s", name,
                   root == s->dirs[0] ? "policy's directory"
                                      : "directory of policy.path that it is in");
    }
    if (strcmp(asked, path) != 0) { /* a symbolic link may be turned */
        struct stat st;
        note_source(L, asked, stat(asked, &st) == 0 ? &st : NULL);
    }
    return true;
}

/* The same in the first directory that has one; raises where none has. */
static void resolve_module(lua_State *L, const char *name, char path[PATH_MAX])
{
    const struct lua_host *s = lua_vm_host(L);
    char asked[PATH_MAX];
    for (size_t i = 0; i < s->dir_count; i++) {
        if (resolve_module_in(L, s->dirs[i], name, asked, path)) {
            return;
        }
    }
    if (s->dir_count == 1) {
        luaL_error(L, "module '%s' not found: %s: %s", name, asked, strerror(ENOENT));
    }
    lua_pushstring(L, s->dirs[0]);
    for (size_t i = 1; i < s->dir_count; i++) {
        lua_pushfstring(L, ", %s", s->dirs[i]);
        lua_concat(L, 2);
    }
    luaL_error(L, "module '%s' not found in %s", name, lua_tostring(L, -1));
}

/* require(name): the sandbox has checked that the policy is being loaded */
static int host_require(lua_State *L)
{
    char path[PATH_MAX];
    size_t n;
    const char *name = luaL_checklstring(L, 1, &n);
    if (strlen(name) != n || !module_name_ok(name)) {
        return luaL_error(L, "require: a name like 'lib.topics' was expected (letters, digits, _)");
    }
    lua_settop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &modules_key); /* stack: name, modules */
    lua_pushvalue(L, 1);
    if (lua_rawget(L, 2) == LUA_TLIGHTUSERDATA) {
        return luaL_error(L, "module '%s' requires itself, directly or through another", name);
    }
    if (!lua_isnil(L, -1)) {
        return 1;
    }
    lua_pop(L, 1);
    resolve_module(L, name, path);
    lua_pushlightuserdata(L, NULL); /* being loaded */
    lua_setfield(L, 2, name);
    luaL_gsub(L, name, ".", "/");
    lua_sandbox_load(L, path, lua_pushfstring(L, "%s.lua", lua_tostring(L, -1)));
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

/* ---- what sandbox.lua gets as `host` */

static int host_loading(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    lua_pushboolean(L, s->loading);
    return 1;
}

static int host_pure(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    lua_pushboolean(L, s->pure);
    return 1;
}

static int host_now(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    lua_pushinteger(L, s->unix_ms(s->ctx) / 1000);
    return 1;
}

static int host_readonly(lua_State *L)
{
    lua_settop(L, 2);
    const char *name = luaL_checkstring(L, 2); /* anchored by the view's metatable */
    lua_pushvalue(L, 1);
    lua_readonly_wrap(L, name);
    return 1;
}

/* Raw length; a view's is that of the table behind it. A script's own __len is refused: it could
 * send a library function counting for ever. */
static int host_length(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_readonly_real(L, 1)) {
        lua_pushinteger(L, (lua_Integer)lua_rawlen(L, -1));
        return 1;
    }
    if (luaL_getmetafield(L, 1, "__len") != LUA_TNIL) {
        return luaL_error(L, "a table with __len is not a list");
    }
    lua_pushinteger(L, (lua_Integer)lua_rawlen(L, 1));
    return 1;
}

/* Reading and writing its elements calls nothing. */
static int host_plain(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushboolean(L, luaL_getmetafield(L, 1, "__index") == LUA_TNIL &&
                           luaL_getmetafield(L, 1, "__newindex") == LUA_TNIL);
    return 1;
}

static int host_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_readonly_real(L, 1)) {
        return lua_readonly_next(L);
    }
    if (lua_next(L, 1)) {
        return 2;
    }
    lua_pushnil(L);
    return 1;
}

/* stack: env, unchanged */
static void open_settings(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    lua_getfield(L, -1, "tg");
    REQUIRE(lua_readonly_real(L, -1)); /* stack: env, view, tg */
    lua_settings_open(L, s->settings, host_readonly);
    lua_pop(L, 2);
}

static void lua_sandbox_push_host(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"loading", host_loading},   {"pure", host_pure},       {"now", host_now},
        {"plain", host_plain},       {"length", host_length},   {"next", host_next},
        {"readonly", host_readonly}, {"require", host_require}, {NULL, NULL},
    };
    luaL_newlib(L, functions); /* stack: host */
    lua_newtable(L);
    lua_api_open(L); /* stack: host, env */
    open_settings(L);
    const struct lua_host *s = lua_vm_host(L);
    if (s->extend) {
        s->extend(L, s->extend_ctx);
    }
    lua_setfield(L, -2, "env");
    lua_pushcfunction(L, lua_pcall_limited);
    lua_setfield(L, -2, "pcall");
    lua_newtable(L);
    lua_string_open(L);
    lua_setfield(L, -2, "patterns");
}

static void open_raw_libraries(lua_State *L)
{
    static const luaL_Reg libraries[] = {
        {LUA_GNAME, luaopen_base},
        {LUA_STRLIBNAME, luaopen_string},
        {LUA_TABLIBNAME, luaopen_table},
        {LUA_MATHLIBNAME, luaopen_math},
        {LUA_UTF8LIBNAME, luaopen_utf8},
        {LUA_OSLIBNAME, luaopen_os},
        {NULL, NULL},
    };
    for (const luaL_Reg *l = libraries; l->name; l++) {
        luaL_requiref(L, l->name, l->func, 1);
        lua_pop(L, 1);
    }
}

static int open_body(lua_State *L)
{
    const struct embedded *file = embedded_find("scripts/lib/" LUA_VM_INTERNAL);
    REQUIRE(file != NULL);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &modules_key);
    /* here, where a failure is final: one half made would stay so when memory runs out later */
    lua_box_open(L);
    lua_secret_open(L);
    lua_event_open(L);
    open_raw_libraries(L);
    if (luaL_loadbufferx(L, file->data, file->size, "@" LUA_VM_INTERNAL, "t") != LUA_OK) {
        return lua_error(L);
    }
    lua_sandbox_push_host(L);
    lua_call(L, 1, 1); /* stack: globals of policies */
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    /* the raw libraries can be reached from nowhere now */
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_gc(L, LUA_GCCOLLECT);
    return 0;
}

int lua_sandbox_open(struct lua_vm *vm, struct lua_host *host, struct err *e)
{
    lua_vm_set_host(vm, host);
    host->loading = true;
    int rc = lua_vm_call(vm, open_body, NULL, e);
    return rc ? err_context(e, "the policy's environment cannot be made") : 0;
}
