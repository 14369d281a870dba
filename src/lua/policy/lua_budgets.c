#include "lua/policy/lua_budgets.h"

static struct lua_budget budget(const char *hook, const char *setting, unsigned ms)
{
    return (struct lua_budget){hook, setting, ms * UINT64_C(1000000)};
}

/* One case for each hook: the compiler finds the one that has no budget. */
static struct lua_budget budget_of(enum policy_hook hook, const struct lua_policy_cpu *cpu)
{
    const char *name = hook < POLICY_HOOK_COUNT ? policy_hook_name(hook) : "?";
    switch (hook) {
    case POLICY_HOOK_AUTHENTICATE:
    case POLICY_HOOK_SUBSCRIBE:
    case POLICY_HOOK_DISCONNECT:
        return budget(name, "policy.subscribe_cpu_ms", cpu->subscribe_ms);
    case POLICY_HOOK_PUBLISH:
        return budget(name, "policy.publish_cpu_ms", cpu->publish_ms);
    case POLICY_HOOK_FILTER:
    case POLICY_HOOK_FORMAT:
        return budget(name, "policy.filter_cpu_ms", cpu->filter_ms);
    case POLICY_HOOK_SETUP:
    case POLICY_HOOK_RELOAD:
        return budget(name, "policy.load_cpu_ms", cpu->load_ms);
    case POLICY_HOOK_COUNT:
        break;
    }
    return budget(name, "?", 0);
}

void lua_budgets_init(struct lua_budgets *b, const struct lua_policy_cpu *cpu)
{
    for (unsigned i = 0; i < POLICY_HOOK_COUNT; i++) {
        b->hooks[i] = budget_of((enum policy_hook)i, cpu);
    }
    b->load = budget("load", "policy.load_cpu_ms", cpu->load_ms);
}

struct lua_allowance lua_budgets_batch(const struct lua_budgets *b, size_t n, size_t bytes)
{
    struct lua_allowance a = lua_budget_allow(&b->hooks[POLICY_HOOK_PUBLISH], bytes);
    a.cpu_ns += b->hooks[POLICY_HOOK_PUBLISH].cpu_ns / 10 * (n ? n - 1 : 0);
    return a;
}
