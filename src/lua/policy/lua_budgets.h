/* The CPU budget of each hook of a policy. */
#ifndef LUA_POLICY_LUA_BUDGETS_H
#define LUA_POLICY_LUA_BUDGETS_H

#include "lua/policy/lua_policy.h"
#include "lua/policy/lua_policy_file.h"

struct lua_budgets {
    struct lua_budget hooks[POLICY_HOOK_COUNT];
    struct lua_budget load;
};

void lua_budgets_init(struct lua_budgets *b, const struct lua_policy_cpu *cpu);
/* For `n` publishes of one request with `bytes` of data: the first may take the budget, each
 * further one a tenth of it. */
struct lua_allowance lua_budgets_batch(const struct lua_budgets *b, size_t n, size_t bytes);

#endif
