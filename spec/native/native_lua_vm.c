/* lua/: lua_vm and lua_sandbox, without a policy. */
#include "base/require.h"
#include "lua/api/lua_event.h"
#include "lua/api/lua_json.h"
#include "lua/load/lua_sandbox.h"
#include "native_policy.h"

#include <stdlib.h>
#include <uv.h>

static const char *const vm_class = "native.lua_vm";

struct bench {
    struct lua_vm *vm;
    struct lua_host host;
    char *dir;
    int64_t unix_ms;
};

struct job {
    struct lua_vm *vm;
    struct slice code;
    struct event *event;
    struct strbuf out;
    int inner; /* what a call from inside a call answered */
    int ref;
};

static int64_t clock_of(void *ctx)
{
    return *(const int64_t *)ctx;
}

static struct bench *check(lua_State *L)
{
    struct bench *b = luaL_checkudata(L, 1, vm_class);
    luaL_argcheck(L, b->vm, 1, "closed");
    return b;
}

static int l_close(lua_State *L)
{
    struct bench *b = luaL_checkudata(L, 1, vm_class);
    lua_vm_free(b->vm);
    free(b->dir);
    b->vm = NULL;
    b->dir = NULL;
    return 0;
}

/* open(bytes [, directory]) -> vm, or nil, text */
static int l_open(lua_State *L)
{
    size_t most = (size_t)luaL_checkinteger(L, 1);
    const char *dir = luaL_optstring(L, 2, "/nonexistent");
    struct bench *b = lua_newuserdatauv(L, sizeof *b, 0);
    struct err e = {0};
    *b = (struct bench){.vm = lua_vm_new(most), .unix_ms = 1700000000123};
    luaL_setmetatable(L, vm_class);
    if (!b->vm) {
        lua_pushnil(L);
        lua_pushliteral(L, "no memory for a state");
        return 2;
    }
    b->dir = realpath(dir, NULL);
    b->dir = b->dir ? b->dir : strdup("/nonexistent");
    b->host =
        (struct lua_host){.dirs = &b->dir, .dir_count = 1, .unix_ms = clock_of, .ctx = &b->unix_ms};
    if (lua_sandbox_open(b->vm, &b->host, &e)) {
        lua_pushnil(L);
        lua_pushstring(L, e.text);
        return 2;
    }
    return 1;
}

/* The chunk's argument is the event, if there is one; its result, as text, is the answer. */
static int run_body(lua_State *L)
{
    struct job *j = lua_touserdata(L, 1);
    size_t n;
    if (luaL_loadbufferx(L, j->code.p, j->code.n, "@code", "t") != LUA_OK) {
        return lua_error(L);
    }
    if (j->event) {
        lua_event_push(L, j->event);
    }
    lua_call(L, j->event ? 1 : 0, 1);
    const char *text = luaL_tolstring(L, -1, &n);
    if (strbuf_append(&j->out, text, n)) {
        return luaL_error(L, "the answer is too long");
    }
    return 0;
}

static int push_outcome(lua_State *L, struct bench *b, int rc, const struct err *e)
{
    lua_pushnil(L);
    lua_pushstring(L, e->text);
    lua_pushstring(L, lua_vm_failure(b->vm)->where);
    lua_pushstring(L, lua_vm_failure(b->vm)->traceback);
    lua_pushstring(L, uv_err_name(rc));
    return 5;
}

/* vm:run(code [, event]) -> text, or nil, message, where, traceback, code */
static int l_run(lua_State *L)
{
    struct bench *b = check(L);
    struct job j = {.vm = b->vm, .event = lua_isnoneornil(L, 3) ? NULL : native_check_event(L, 3)};
    struct err e = {0};
    j.code.p = luaL_checklstring(L, 2, &j.code.n);
    strbuf_init(&j.out, 1 << 20);
    int rc = lua_vm_call(b->vm, run_body, &j, &e);
    if (rc) {
        strbuf_clear(&j.out);
        return push_outcome(L, b, rc, &e);
    }
    lua_pushlstring(L, j.out.data ? j.out.data : "", j.out.len);
    strbuf_clear(&j.out);
    return 1;
}

static int nested_body(lua_State *L)
{
    struct job *j = lua_touserdata(L, 1);
    struct err e;
    j->inner = lua_vm_call(j->vm, run_body, j, &e);
    return 0;
}

/* vm:nested() -> what a call from inside a call answers */
static int l_nested(lua_State *L)
{
    struct bench *b = check(L);
    struct job j = {.vm = b->vm};
    struct err e;
    int rc = lua_vm_call(b->vm, nested_body, &j, &e);
    lua_pushinteger(L, rc);
    lua_pushstring(L, uv_err_name(j.inner));
    return 2;
}

static int ref_body(lua_State *L)
{
    struct job *j = lua_touserdata(L, 1);
    lua_newtable(L);
    j->ref = lua_vm_ref(L);
    lua_pushinteger(L, 1); /* left on the stack on purpose */
    return 0;
}

/* Closing what a failed decode leaves may have to grow the stack: at some fill of it, it must. */
static int depths_body(lua_State *L)
{
    struct job *j = lua_touserdata(L, 1);
    for (int top = 2; top < 4000; top++) {
        struct lua_json_error why;
        luaL_checkstack(L, 1, NULL);
        lua_pushnil(L);
        (void)lua_json_decode(L, j->code, &why);
        if (lua_gettop(L) != top) {
            j->inner = top;
            lua_settop(L, 1);
            return luaL_error(L, "the stack was left wrong at %d values", j->inner);
        }
    }
    return 0;
}

/* vm:decode_at_all_depths(bad JSON) -> true, or nil, text */
static int l_decode_at_all_depths(lua_State *L)
{
    struct bench *b = check(L);
    struct job j = {.vm = b->vm};
    struct err e = {0};
    j.code.p = luaL_checklstring(L, 2, &j.code.n);
    lua_pushboolean(L, lua_vm_call(b->vm, depths_body, &j, &e) == 0);
    lua_pushstring(L, e.text);
    return 2;
}

static int unref_body(lua_State *L)
{
    lua_vm_unref(L, ((const struct job *)lua_touserdata(L, 1))->ref);
    return 0;
}

/* vm:refs() -> references before, while and after one is held */
static int l_refs(lua_State *L)
{
    struct bench *b = check(L);
    struct job j = {.vm = b->vm};
    struct err e;
    lua_pushinteger(L, lua_vm_refs(b->vm));
    REQUIRE(lua_vm_call(b->vm, ref_body, &j, &e) == 0);
    lua_pushinteger(L, lua_vm_refs(b->vm));
    REQUIRE(lua_vm_call(b->vm, unref_body, &j, &e) == 0);
    lua_pushinteger(L, lua_vm_refs(b->vm));
    return 3;
}

/* vm:state() -> stack top, bytes, repairs */
static int l_state(lua_State *L)
{
    struct bench *b = check(L);
    lua_pushinteger(L, lua_vm_top(b->vm));
    lua_pushinteger(L, (lua_Integer)lua_vm_memory(b->vm));
    lua_pushinteger(L, (lua_Integer)lua_vm_stack_repairs(b->vm));
    return 3;
}

/* vm:mode{loading, pure, unix_ms} */
static int l_mode(lua_State *L)
{
    struct bench *b = check(L);
    lua_getfield(L, 2, "loading");
    b->host.loading = lua_toboolean(L, -1);
    lua_getfield(L, 2, "pure");
    b->host.pure = lua_toboolean(L, -1);
    b->unix_ms = native_field_integer(L, 2, "unix_ms", b->unix_ms);
    return 0;
}

int native_open_lua_vm(lua_State *L)
{
    static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"run", l_run},    {"nested", l_nested},
        {"refs", l_refs},  {"state", l_state},
        {"mode", l_mode},  {"close", l_close},
        {"__gc", l_close}, {"decode_at_all_depths", l_decode_at_all_depths},
        {NULL, NULL},
    };
    native_class(L, vm_class, methods);
    luaL_newlib(L, functions);
    return 1;
}
