/* See lua_config.h. The Lua half is scripts/lib/config_load.lua; this file gives it what Lua alone
 * cannot: the sandboxed run of the file, environment variables, C checks, and the copy into the
 * struct. Everything that may raise runs inside lua_vm_call(), and owns no C memory: what is
 * allocated on the way hangs on `struct job` and is freed outside. */
#include "config/lua_config.h"

#include "base/program/embedded.h"
#include "base/program/read_file.h"
#include "base/require.h"
#include "config/lua_struct.h"
#include "lua/vm/lua_vm.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    FILE_MAX_BYTES = 1 << 20,
    MEMORY_MIB = 16,
    MEMORY_BYTES = MEMORY_MIB << 20,
    RUN_INSTRUCTIONS = 5 * 1000 * 1000,
};

#define TOO_MUCH_MEMORY ": needs more than %d MiB of memory: a configuration file is data"

struct job {
    const struct lua_config_spec *spec;
    const struct lua_config_override *overrides;
    size_t override_count;
    const char *path;
    struct slice text; /* of the file */
    bool defaults;     /* the text is in no file */
    void *out;
    struct strbuf *result; /* problems, or the reference */
    const char *label;     /* of a setting whose line is looked for */
    int line;
    bool *salvaged; /* NULL: nobody wants what is right of a wrong file */
    int rc;
};

/* ---------------------------------------------------------------- the state */

/* require(name) of the scripts: only what the binary carries. */
static int l_require(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE); /* name, loaded */
    if (lua_getfield(L, 2, name) != LUA_TNIL) {
        return 1;
    }
    const char *path = lua_pushfstring(L, "scripts/lib/%s.lua", name);
    const struct embedded *file = embedded_find(path);
    if (!file) {
        return luaL_error(L, "no embedded file %s", path);
    }
    path = lua_pushfstring(L, "@%s", path);
    if (luaL_loadbufferx(L, file->data, file->size, path, "t")) {
        return lua_error(L);
    }
    lua_call(L, 0, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

static void open_libraries(lua_State *L)
{
    static const luaL_Reg libraries[] = {{LUA_GNAME, luaopen_base},
                                         {LUA_STRLIBNAME, luaopen_string},
                                         {LUA_TABLIBNAME, luaopen_table},
                                         {LUA_MATHLIBNAME, luaopen_math},
                                         {NULL, NULL}};
    for (const luaL_Reg *lib = libraries; lib->name; lib++) {
        luaL_requiref(L, lib->name, lib->func, 1);
        lua_pop(L, 1);
    }
    lua_register(L, "require", l_require);
}

/* stack: +1 the module */
static void push_module(lua_State *L, const char *name)
{
    lua_pushcfunction(L, l_require);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
}

/* stack: +1 what the schema text returned */
static void push_schema(lua_State *L, const struct lua_config_spec *spec)
{
    if (luaL_loadbufferx(L, spec->schema.p, spec->schema.n, "=schema", "t")) {
        lua_error(L);
    }
    lua_call(L, 0, 1);
}

/* Raises unless the schema at -1 and the keys of the spec mirror each other. stack: unchanged */
static void check_mirror(lua_State *L, const struct lua_config_spec *spec)
{
    int schema = lua_absindex(L, -1);
    push_module(L, "schema");
    lua_getfield(L, -1, "kinds");
    lua_getfield(L, schema, "fields");
    lua_call(L, 1, 1); /* module, kinds */
    lua_struct_check(L, spec);
    lua_settop(L, schema);
}

/* Runs body(L) with `job` as its only argument in a fresh state. */
static int run_body(struct job *job, lua_CFunction body)
{
    struct err e;
    struct lua_vm *vm = lua_vm_new(MEMORY_BYTES);
    if (!vm) {
        return UV_ENOMEM;
    }
    job->rc = 0;
    int rc = lua_vm_call(vm, body, job, &e);
    if (rc == UV_ENOMEM && job->path) {
        /* the file's data took what checking it needs */
        strbuf_reset(job->result);
        job->rc = strbuf_printf(job->result, "%s" TOO_MUCH_MEMORY "\n", job->path, MEMORY_MIB);
        job->rc = job->rc ? job->rc : UV_EINVAL;
    } else if (rc) {
        strbuf_reset(job->result);
        job->rc = strbuf_printf(job->result, "internal error: %s\n", e.text);
        job->rc = job->rc ? job->rc : UV_EFAULT;
    }
    lua_vm_free(vm);
    return job->rc;
}

/* ---------------------------------------------------------------- what config_load.lua is given */

static struct job *job_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static int l_getenv(lua_State *L)
{
    lua_pushstring(L, getenv(luaL_checkstring(L, 1))); /* pushes nil for NULL */
    return 1;
}

static void on_instructions(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    luaL_where(L, 0);
    lua_pushliteral(L, "still running after 5 million instructions: "
                       "a configuration file is data, is there a loop in it?");
    lua_concat(L, 2);
    lua_error(L);
}

/* run(environment) -> true, value | false, message, is it a mistake of syntax */
static int l_run(lua_State *L)
{
    struct job *job = job_of(L);
    lua_settop(L, 1);
    /* no methods on strings either: string.find and string.rep can be made to run for ever */
    lua_pushliteral(L, "");
    if (!lua_getmetatable(L, 2)) {
        return luaL_error(L, "strings have no metatable");
    }
    lua_pushnil(L);
    lua_setmetatable(L, 2); /* environment, "", metatable */

    lua_pushfstring(L, "@%s", job->path);
    int rc = luaL_loadbufferx(L, job->text.p, job->text.n, lua_tostring(L, -1), "t");
    lua_remove(L, 4); /* environment, "", metatable, chunk or message */
    if (rc == LUA_OK) {
        lua_pushvalue(L, 1);
        REQUIRE(lua_setupvalue(L, 4, 1)); /* _ENV, the one upvalue of a chunk */
        lua_sethook(L, on_instructions, LUA_MASKCOUNT, RUN_INSTRUCTIONS);
        rc = lua_pcall(L, 0, 1, 0);
        lua_sethook(L, NULL, 0, 0);
    }
    if (rc) {
        lua_gc(L, LUA_GCCOLLECT); /* what it allocated before it failed */
    }
    lua_pushvalue(L, 3);
    lua_setmetatable(L, 2); /* environment, "", metatable, value or message */
    if (rc == LUA_ERRMEM) {
        lua_pushfstring(L, "%s" TOO_MUCH_MEMORY, job->path, MEMORY_MIB);
    }
    lua_pushboolean(L, rc == LUA_OK);
    lua_insert(L, -2);
    lua_pushboolean(L, rc == LUA_ERRSYNTAX);
    return 3;
}

/* A format of the spec as a function: text -> true | nil, reason */
static int l_format(lua_State *L)
{
    const struct job *job = job_of(L);
    const struct lua_config_format *f = job->spec->formats + lua_tointeger(L, lua_upvalueindex(2));
    struct err e = {0};
    if (f->check(luaL_checkstring(L, 1), &e)) {
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* stack: +1 table of functions */
static void push_formats(lua_State *L, struct job *job)
{
    lua_newtable(L);
    const struct lua_config_format *f = job->spec->formats;
    for (lua_Integer i = 0; f && f[i].name; i++) {
        lua_pushlightuserdata(L, job);
        lua_pushinteger(L, i);
        lua_pushcclosure(L, l_format, 2);
        lua_setfield(L, -2, f[i].name);
    }
}

/* stack: +1 table path -> { option = , value = } */
static void push_overrides(lua_State *L, const struct job *job)
{
    lua_newtable(L);
    for (size_t i = 0; i < job->override_count; i++) {
        const struct lua_config_override *o = &job->overrides[i];
        const struct lua_config_key *key = lua_struct_find(job->spec, o->path);
        lua_newtable(L); /* overrides, override */
        lua_pushstring(L, o->option);
        lua_setfield(L, -2, "option");
        if (key && (key->type == LUA_CONFIG_LIST || key->type == LUA_CONFIG_ARRAY ||
                    key->type == LUA_CONFIG_MAP)) {
            lua_newtable(L);
            for (size_t k = 0; k < o->n; k++) {
                lua_pushstring(L, o->values[k]);
                lua_rawseti(L, -2, (lua_Integer)k + 1);
            }
        } else if (o->n == 0) {
            lua_pushboolean(L, 0);
        } else {
            lua_pushstring(L, o->values[0]);
        }
        lua_setfield(L, -2, "value");
        lua_setfield(L, -2, o->path);
    }
}

/* stack: +1 the host table */
static void lua_config_push_host(lua_State *L, struct job *job)
{
    lua_newtable(L);
    if (!job->defaults) {
        lua_pushstring(L, job->path);
        lua_setfield(L, -2, "path");
    }
    lua_pushlstring(L, job->text.p, job->text.n);
    lua_setfield(L, -2, "text");
    lua_pushcfunction(L, l_getenv);
    lua_setfield(L, -2, "getenv");
    lua_pushlightuserdata(L, job);
    lua_pushcclosure(L, l_run, 1);
    lua_setfield(L, -2, "run");
    push_formats(L, job);
    lua_setfield(L, -2, "formats");
    push_overrides(L, job);
    lua_setfield(L, -2, "overrides");
}

/* ---------------------------------------------------------------- protected bodies */

/* stack: list of texts at -1, unchanged */
static void lua_config_report(lua_State *L, struct job *job)
{
    job->rc = UV_EINVAL;
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        const char *line = lua_tostring(L, -1);
        if (!line || strbuf_printf(job->result, "%s\n", line)) {
            return; /* no room for more: what is there is enough to start with */
        }
        lua_pop(L, 1);
    }
}

static int body_load(lua_State *L)
{
    struct job *job = lua_touserdata(L, 1);
    open_libraries(L);
    push_module(L, "config_load"); /* job, load */
    push_schema(L, job->spec);     /* job, load, schema */
    check_mirror(L, job->spec);
    lua_config_push_host(L, job); /* job, load, schema, host */
    lua_call(L, 2, 3);            /* job, settings or nil, problems, what is right of them */
    if (lua_istable(L, 2)) {
        lua_settop(L, 2);
        lua_struct_copy(L, job->spec, job->out);
        return 0;
    }
    if (job->salvaged && lua_istable(L, 4)) {
        lua_struct_copy(L, job->spec, job->out);
        *job->salvaged = true;
    }
    lua_settop(L, 3);
    lua_config_report(L, job);
    return 0;
}

static int body_reference(lua_State *L)
{
    struct job *job = lua_touserdata(L, 1);
    open_libraries(L);
    push_module(L, "config_reference");
    push_schema(L, job->spec);
    check_mirror(L, job->spec);
    lua_call(L, 1, 1); /* job, text */
    size_t n;
    const char *text = luaL_checklstring(L, 2, &n);
    job->rc = strbuf_append(job->result, text, n);
    return 0;
}

static int body_line(lua_State *L)
{
    struct job *job = lua_touserdata(L, 1);
    open_libraries(L);
    push_module(L, "config_lines");
    lua_pushlstring(L, job->text.p, job->text.n);
    lua_call(L, 1, 1); /* job, line_of */
    lua_pushstring(L, job->label);
    lua_call(L, 1, 1); /* job, line or nil */
    job->line = (int)lua_tointeger(L, 2);
    return 0;
}

/* ---------------------------------------------------------------- entries */

/* What to do about a file that cannot be read; NULL: who knows. */
static const char *lua_config_remedy(int rc)
{
    switch (rc) {
    case UV_ENOENT:
        return "`tidegate init DIR` makes one";
    case UV_EISDIR:
        return "name a file, such as the tidegate.lua in it";
    case UV_EACCES:
        return "run this as a user who may read it, such as the one that runs the broker";
    case UV_ENOBUFS:
        return "a configuration is data, is this one?";
    default:
        return NULL;
    }
}

int lua_config_load(const struct lua_config_spec *spec, const char *path,
                    const struct lua_config_override *overrides, size_t override_count, void *out,
                    struct strbuf *problems, bool *salvaged)
{
    struct strbuf text;
    strbuf_init(&text, FILE_MAX_BYTES);
    lua_struct_blank(spec, out);
    bool defaults = !path, kept = false;
    int rc =
        path ? read_file(path, &text) : strbuf_append(&text, spec->defaults.p, spec->defaults.n);
    path = path ? path : "the defaults";
    if (rc) {
        const char *why = rc == UV_ENOBUFS ? "larger than 1 MiB" : uv_strerror(rc);
        const char *then = lua_config_remedy(rc);
        strbuf_clear(&text);
        rc = strbuf_printf(problems, "%s: cannot read this configuration file: %s%s%s\n", path, why,
                           then ? ": " : "", then ? then : "");
        if (salvaged) {
            *salvaged = false;
        }
        return rc ? rc : UV_EINVAL;
    }
    struct job job = {.spec = spec,
                      .overrides = overrides,
                      .override_count = override_count,
                      .path = path,
                      .text = strbuf_slice(&text),
                      .defaults = defaults,
                      .out = out,
                      .result = problems,
                      .salvaged = salvaged ? &kept : NULL};
    rc = run_body(&job, body_load);
    strbuf_clear(&text);
    kept = kept && rc == UV_EINVAL;
    if (rc && !kept) {
        lua_struct_clear(spec, out);
    }
    if (salvaged) {
        *salvaged = kept;
    }
    return rc;
}

int lua_config_line(const char *path, const char *label)
{
    struct strbuf text, ignored;
    struct job job = {.label = label, .result = &ignored};
    strbuf_init(&text, FILE_MAX_BYTES);
    strbuf_init(&ignored, FILE_MAX_BYTES);
    if (read_file(path, &text) == 0) {
        job.text = strbuf_slice(&text);
        (void)run_body(&job, body_line); /* without it there is no line */
    }
    strbuf_clear(&text);
    strbuf_clear(&ignored);
    return job.line;
}

void lua_config_clear(const struct lua_config_spec *spec, void *out)
{
    lua_struct_clear(spec, out);
}

int lua_config_reference(const struct lua_config_spec *spec, struct strbuf *out)
{
    struct job job = {.spec = spec, .result = out};
    return run_body(&job, body_reference);
}

const char *lua_config_lua_release(void)
{
    return LUA_RELEASE;
}
