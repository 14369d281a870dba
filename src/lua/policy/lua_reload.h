/* The hook that says what becomes of open streams when its policy takes over. It cannot wait. */
#ifndef LUA_POLICY_LUA_RELOAD_H
#define LUA_POLICY_LUA_RELOAD_H

#include "broker/policy.h"
#include "lua/policy/lua_budgets.h"
#include "lua/policy/lua_policy_file.h"

/* reload(previous); RELOAD_RESUBSCRIBE where there is no such hook. */
int lua_reload_ask(struct lua_vm *vm, const struct lua_budgets *budgets,
                   const struct lua_policy_file *f, const char *previous, enum reload_mode *out,
                   struct err *e);

#endif
