/* `observe` of a Lua policy: run for one event, it orders what is to become of open streams. */
#include "lua/api/lua_event.h"
#include "lua/policy/lua_policy_state.h"

struct observation {
    const struct lua_observe *o;
    struct event *ev;
};

static bool lua_policy_observes(const struct policy *base, struct slice topic)
{
    const struct lua_observes *all = &lua_policy_of(base)->file.observes;
    for (size_t i = 0; i < all->n; i++) {
        if (lua_observe_wants(&all->v[i], topic)) {
            return true;
        }
    }
    return false;
}

static int observe_body(lua_State *L)
{
    const struct observation *x = lua_touserdata(L, 1);
    lua_vm_push(L, x->o->run);
    lua_event_push(L, x->ev);
    lua_call(L, 1, 0);
    return 0;
}

static int observe_one(struct lua_policy *p, const struct lua_observe *o, struct event *ev)
{
    struct observation x = {o, ev};
    struct err e;
    struct lua_cpu_mark from = lua_watchdog_mark(&p->cpu);
    p->n.calls++;
    int rc = lua_vm_run(p->vm,
                        lua_budget_allow(&p->budgets.hooks[POLICY_HOOK_OBSERVE], event_data(ev).n),
                        observe_body, &x, &e);
    lua_policy_time(p->metrics, POLICY_HOOK_OBSERVE, &from);
    if (rc) {
        struct policy_failure f = {
            .hook = POLICY_HOOK_OBSERVE, .function = o->topics[0], .event = ev->id};
        struct lua_function fn = {.ref = o->run};
        memcpy(fn.where, o->where, sizeof fn.where);
        lua_policy_report(p, &f, &fn, &e);
    }
    return rc;
}

static int lua_policy_observe(struct policy *base, struct event *ev, struct policy_effects *out)
{
    struct lua_policy *p = lua_policy_of(base);
    const struct lua_observes *all = &p->file.observes;
    int rc = 0;
    p->host.effects = out;
    for (size_t i = 0; i < all->n; i++) {
        if (lua_observe_wants(&all->v[i], event_topic(ev))) {
            int failed = observe_one(p, &all->v[i], ev); /* the others are run all the same */
            rc = rc ? rc : failed;
        }
    }
    p->host.effects = NULL;
    lua_policy_update_figures(p);
    return rc;
}

const struct policy_reach lua_policy_reach = {
    .observes = lua_policy_observes,
    .observe = lua_policy_observe,
};
