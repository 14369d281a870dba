/* Private to lua_policy.c (gates and life), lua_policy_rules.c (filters and formats) and
 * lua_policy_observe.c. */
#ifndef LUA_POLICY_LUA_POLICY_STATE_H
#define LUA_POLICY_LUA_POLICY_STATE_H

#include "base/container_of.h"
#include "base/digest.h"
#include "lua/hooks/lua_hooks.h"
#include "lua/load/lua_policy_file.h"
#include "lua/load/lua_settings.h"
#include "lua/policy/lua_params.h"
#include "lua/policy/lua_policy.h"
#include "lua/policy/policy_log.h"
#include "lua/policy/policy_sets.h"
#include "lua/vm/lua_host.h"

struct lua_policy {
    struct policy base;
    struct lua_policy_options opt; /* file: owned */
    char **dirs;                   /* owned, each as well: the file's, then those of opt.path */
    size_t dir_count;
    struct loop *loop;
    bool live;
    struct policy_metrics *metrics;      /* `live_metrics` or `muted` */
    struct policy_metrics *live_metrics; /* borrowed */
    struct policy_metrics muted;         /* what one that is not in force yet counts */
    struct lua_vm *vm;
    struct lua_host host;
    struct lua_policy_file file;
    struct policy_sets sets;
    struct {
        char previous[POLICY_VERSION_BYTES]; /* empty: none */
        policy_ready_cb cb;
        void *ctx;
    } setup;                      /* waits for the sets */
    struct lua_settings settings; /* their values only while it is being loaded */
    struct lua_params params;
    struct format_classes *classes; /* owned */
    struct lua_budgets budgets;
    struct policy_log log;
    struct lua_coros *coros;
    struct lua_hooks calls;
    char version[POLICY_VERSION_BYTES];
    struct lua_cpu_clock cpu;                /* of hooks that do not wait */
    unsigned untimed[2];                     /* of filters, of formats: calls until one is timed */
    unsigned quarantined;                    /* functions */
    struct policy_figures n, before_dry_run; /* dry runs do not count; last_error: not here */
    char last_error[512];                    /* for people */
};

static inline struct lua_policy *lua_policy_of(const struct policy *p)
{
    return container_of((struct policy *)(uintptr_t)p, struct lua_policy, base);
}

/* The hot path: `struct policy_rules` of every Lua policy. */
extern const struct policy_rules lua_policy_rules;
/* Of those with `observe`. */
extern const struct policy_reach lua_policy_reach;

/* Counts and logs an error of `fn`, which the VM has noted. The place is the line that raised, or,
 * when the function had returned, its definition. */
void lua_policy_report(struct lua_policy *p, struct policy_failure *f,
                       const struct lua_function *fn, const struct err *e);
/* The same for what failed without Lua. */
void lua_policy_report_plain(struct lua_policy *p, struct policy_failure *f,
                             const struct lua_function *fn, const struct err *e);
void lua_policy_update_figures(struct lua_policy *p);
/* A call of a hook that does not wait has ended. */
void lua_policy_time(struct policy_metrics *m, enum policy_hook hook,
                     const struct lua_cpu_mark *from);
_Static_assert((int)POLICY_HOOK_COUNT <= (int)POLICY_TIMED_HOOKS_MAX, "hooks that are timed");

#endif
