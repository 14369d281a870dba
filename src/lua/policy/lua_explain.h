/* Filters and formats run once more, for people who ask why an event did or did not come. */
#ifndef LUA_POLICY_LUA_EXPLAIN_H
#define LUA_POLICY_LUA_EXPLAIN_H

#include "broker/policy.h"
#include "lua/policy/lua_params.h"
#include "lua/policy/lua_policy_file.h"
#include "lua/vm/lua_host.h"

/* What of a policy it takes; all borrowed. */
struct lua_explain {
    struct lua_vm *vm;
    struct lua_host *host;
    struct lua_policy_file *file;
    struct lua_params *params;
    struct format_classes *classes;
    const struct lua_budgets *budgets;
};

/* See policy_ops.explain. Health of functions, figures and metrics stay as they are; budgets hold
 * as ever. */
enum policy_judged lua_explain(const struct lua_explain *x, const struct policy_binding *b,
                               struct event *ev, struct formatted *out,
                               struct policy_account *filter, struct policy_account *format);

#endif
