/* A policy file, loaded: the hooks it defines, as references, and its named filters and formats. */
#ifndef LUA_LOAD_LUA_POLICY_FILE_H
#define LUA_LOAD_LUA_POLICY_FILE_H

#include "base/slice.h"
#include "filter/filter.h"
#include "lua/api/lua_db.h"
#include "lua/load/lua_observe.h"
#include "lua/load/lua_sets.h"
#include "lua/vm/lua_vm.h"
#include "policy/policy_setting.h"

/* X(enumerator, name in logs, members of struct policy_metrics that count its errors, and of these
 * the calls that used up their CPU time) */
#define POLICY_HOOKS(X)                                                                            \
    X(AUTHENTICATE, "authenticate", policy_errors_authenticate, policy_overdue_authenticate)       \
    X(SUBSCRIBE, "subscribe", policy_errors_subscribe, policy_overdue_subscribe)                   \
    X(PUBLISH, "publish", policy_errors_publish, policy_overdue_publish)                           \
    X(DISCONNECT, "disconnect", policy_errors_disconnect, policy_overdue_disconnect)               \
    X(SETUP, "setup", policy_errors_setup, policy_overdue_setup)                                   \
    X(RELOAD, "reload", policy_errors_reload, policy_overdue_reload)                               \
    X(FILTER, "filter", policy_errors_filter, policy_overdue_filter)                               \
    X(FORMAT, "format", policy_errors_format, policy_overdue_format)                               \
    X(OBSERVE, "observe", policy_errors_observe, policy_overdue_observe)

enum policy_hook {
#define X(e, name, counter, overdue) POLICY_HOOK_##e,
    POLICY_HOOKS(X)
#undef X
        POLICY_HOOK_COUNT,
    POLICY_HOOK_SINGLE_COUNT = POLICY_HOOK_FILTER, /* those of which a policy has at most one */
};

struct format_spec;

/* ---- the health of functions */

/* Filters and formats that fail more often than not are disabled until the policy is reloaded, because
 * they would only cost time and log lines. */

/* Of one function; begins as zeros. */
struct lua_health {
    unsigned calls, errors; /* since the last look */
    uint64_t failed_on;     /* id of the last event it raised on */
    bool quarantined;       /* do not call it: filter nothing through, format nothing */
};

enum {
    LUA_HEALTH_CALLS = 100,
    LUA_HEALTH_ERRORS = 50
}; /* more errors than that in so many calls */

/* Call it after each call of the function, with the result. Errors for one event count once, however
 * many audiences there are; an exceeded CPU budget counts each time; short memory does not count.
 * Returns true once, when the function is to be disabled. */
bool lua_health_note(struct lua_health *h, int rc, uint64_t event);

/* ---- the CPU budget of each hook */

/* CPU time of one call, in milliseconds. */
struct lua_policy_cpu {
    unsigned subscribe_ms; /* authenticate and subscribe of one request together; disconnect */
    unsigned publish_ms;   /* observe, too */
    unsigned filter_ms;    /* a filter, a format */
    unsigned load_ms;      /* running the file */
};

struct lua_budgets {
    struct lua_budget hooks[POLICY_HOOK_COUNT];
    struct lua_budget load;
};

void lua_budgets_init(struct lua_budgets *b, const struct lua_policy_cpu *cpu);
/* For `n` publishes of one request with `bytes` of data: the first may take the budget, each
 * further one a tenth of it. */
struct lua_allowance lua_budgets_batch(const struct lua_budgets *b, size_t n, size_t bytes);

/* ---- what a file holds */

const char *policy_hook_name(enum policy_hook hook);

/* A function of the policy; or a filter or format that needs none. */
struct lua_function {
    char *name;                /* owned; of filters and formats */
    int ref;                   /* LUA_NOREF: the policy has none */
    const struct filter *text; /* borrowed from `texts`; NULL: not text */
    struct format_spec *spec;  /* owned; NULL: not a table of rules */
    struct lua_health health;  /* of filters and formats that are functions */
    char where[128];           /* "geo.lua:14", where it is defined */
};

struct lua_functions {
    struct lua_function *v; /* owned, sorted by name */
    size_t n;
};

struct lua_policy_file {
    char version[65]; /* the label in the file; may be empty */
    struct lua_function hooks[POLICY_HOOK_SINGLE_COUNT];
    struct lua_functions filters, formats;
    struct filter_set *texts;   /* owned: the filters that are text */
    bool counts;                /* their conditions are counted; set before loading */
    struct lua_queries queries; /* its source is set before loading */
    struct lua_sets sets;
    struct lua_observes observes;
    struct policy_declared *declared; /* owned: settings */
    size_t declared_count;
};

struct policy;
/* The file of a policy of lua_policy_open(); borrowed until it is closed. */
const struct lua_policy_file *lua_policy_file_of(const struct policy *p);

void lua_policy_file_init(struct lua_policy_file *f);
/* Runs the file at `path` and reads the table it returns. Initialise `f` first; clear it also on
 * failure. */
int lua_policy_file_load(struct lua_policy_file *f, struct lua_vm *vm, const char *path,
                         bool auth_open, const struct lua_budget *budget, struct err *e);
/* Releases the references and frees; no audience may be bound any more. */
void lua_policy_file_clear(struct lua_policy_file *f, struct lua_vm *vm);

bool lua_policy_file_has(const struct lua_policy_file *f, enum policy_hook hook);
/* Index of the function of that name, or -1. */
int lua_functions_find(const struct lua_functions *all, struct slice name);

#endif
