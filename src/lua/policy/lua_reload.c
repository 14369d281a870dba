#include "lua/policy/lua_reload.h"

#include <string.h>

struct question {
    const struct lua_policy_file *file;
    const char *previous;
    enum reload_mode mode;
};

static int reload_body(lua_State *L)
{
    static const char *const names[] = {"resubscribe", "keep", "reconnect", NULL};
    struct question *q = lua_touserdata(L, 1);
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

int lua_reload_ask(struct lua_vm *vm, const struct lua_budgets *budgets,
                   const struct lua_policy_file *f, const char *previous, enum reload_mode *out,
                   struct err *e)
{
    struct question q = {.file = f, .previous = previous, .mode = RELOAD_RESUBSCRIBE};
    int rc = 0;
    if (lua_policy_file_has(f, POLICY_HOOK_RELOAD)) {
        struct lua_allowance allowed = lua_budget_allow(&budgets->hooks[POLICY_HOOK_RELOAD], 0);
        rc = lua_vm_run(vm, allowed, reload_body, &q, e);
    }
    *out = q.mode;
    return rc;
}
