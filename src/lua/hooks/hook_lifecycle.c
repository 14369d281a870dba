/* disconnect, setup, reload: the hooks that answer no request. */
#include "lua/hooks/lua_hooks.h"

#include <lauxlib.h>
#include <string.h>

static int hook_returned(lua_State *L, int status, lua_KContext ctx)
{
    (void)L;
    (void)status;
    (void)ctx;
    return 0;
}

int hook_disconnect(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    hook_push(L, q, POLICY_HOOK_DISCONNECT);
    hook_push_identity(L, q->identity);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, close_reason_name(q->info->reason));
    lua_setfield(L, -2, "reason");
    lua_pushnumber(L, q->info->seconds);
    lua_setfield(L, -2, "seconds");
    lua_pushinteger(L, (lua_Integer)q->info->delivered);
    lua_setfield(L, -2, "delivered");
    q->identity = slice_of(NULL, 0);
    q->info = NULL;
    lua_callk(L, 2, 0, 0, hook_returned);
    return 0;
}

int hook_setup(lua_State *L)
{
    struct lua_hook_call *q = hook_call_of(L);
    hook_push(L, q, POLICY_HOOK_SETUP);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, q->version);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, q->previous); /* NULL: nil */
    lua_setfield(L, -2, "previous");
    lua_callk(L, 1, 0, 0, hook_returned);
    return 0;
}

/* ---- reload, which cannot wait */

struct hook_reload_call {
    const struct lua_policy_file *file;
    const char *previous;
    enum reload_mode mode;
};

static int hook_reload_body(lua_State *L)
{
    static const char *const names[] = {"resubscribe", "keep", "reconnect", NULL};
    struct hook_reload_call *q = lua_touserdata(L, 1);
    lua_vm_push(L, q->file->hooks[POLICY_HOOK_RELOAD].ref);
    lua_pushstring(L, q->previous);
    lua_call(L, 1, 1);
    bool text = lua_type(L, -1) == LUA_TSTRING;
    for (int i = 0; text && names[i]; i++) {
        if (strcmp(lua_tostring(L, -1), names[i]) == 0) {
            q->mode = (enum reload_mode)i;
            return 0;
        }
    }
    return luaL_error(L,
                      "reload returned %s: \"resubscribe\", \"keep\" or \"reconnect\" was expected",
                      text ? lua_tostring(L, -1) : luaL_typename(L, -1));
}

int lua_hooks_reload(struct lua_vm *vm, const struct lua_budgets *budgets,
                     const struct lua_policy_file *f, const char *previous, enum reload_mode *out,
                     struct err *e)
{
    struct hook_reload_call q = {.file = f, .previous = previous, .mode = RELOAD_RESUBSCRIBE};
    int rc = 0;
    if (lua_policy_file_has(f, POLICY_HOOK_RELOAD)) {
        struct lua_allowance allowed = lua_budget_allow(&budgets->hooks[POLICY_HOOK_RELOAD], 0);
        rc = lua_vm_run(vm, allowed, hook_reload_body, &q, e);
    }
    *out = q.mode;
    return rc;
}
