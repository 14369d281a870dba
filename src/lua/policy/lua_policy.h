/* The policy of a broker, written in Lua: implements policy/policy.h. One Lua state per loaded
 * file. */
#ifndef LUA_POLICY_LUA_POLICY_H
#define LUA_POLICY_LUA_POLICY_H

#include "base/err.h"
#include "lua/load/lua_policy_file.h"
#include "net/loop.h"
#include "policy/identity.h"
#include "policy/metrics.h"
#include "policy/policy.h"
#include "policy/policy_setting.h"

struct keyring;
struct lua_State;
struct lua_cache;
struct lua_cover;
struct lua_rates;
struct lua_waits;
struct lua_watchdog;
struct policy_failure;

struct query_source;
struct set_store;
struct policy_set_state;
struct lua_http_service;

struct lua_policy_options {
    const char *file;  /* absolute; `require` looks below its directory */
    char *const *path; /* absolute directories where it looks then; borrowed as settings */
    size_t path_count;
    bool auth_open;                /* `authenticate` may be missing: every client is admitted */
    size_t memory_bytes;           /* cap of the Lua state and of the events it keeps alive */
    size_t event_bytes;            /* most bytes of data of an event the publish hook returns */
    struct policy_limits limits;   /* of what hooks return */
    unsigned error_log_interval_s; /* 0: every error is shown */
    const char *configuration; /* its file, so that a change of it counts; NULL: none; borrowed */
    /* What it gives to the policy: sorted by name, borrowed while it is being loaded. */
    const struct policy_setting *settings;
    size_t setting_count;
    struct lua_cache *cache;       /* borrowed for the policy's life */
    struct keyring *keyring;       /* borrowed for the policy's life; NULL: there are no keys */
    struct lua_waits *waits;       /* borrowed for the policy's life: see lua_coro.h */
    uint64_t subscribe_timeout_ms; /* authenticate and subscribe; disconnect */
    uint64_t publish_timeout_ms;   /* authenticate and publish, for all events of a request */
    struct query_source *queries;  /* for db.query, borrowed for the policy's life; NULL: none */
    struct set_store *sets;        /* for `sets`, borrowed as well; NULL: none */
    struct lua_http_service *http; /* for http.get, borrowed as well; NULL: none */
    struct lua_rates *rates;       /* for tg.rate, borrowed as well; NULL: it raises */
    /* Sets further names in the table on top of the stack, which the file sees as globals; NULL:
     * none. For specs and tools. */
    void (*extend)(struct lua_State *L, void *ctx);
    void *extend_ctx;
    /* Gets, with `extend_ctx`, failures and temporary refusals of hooks in place of the log; NULL:
     * they are logged. For tools. */
    void (*failed)(void *ctx, const struct policy_failure *f);
    const struct lua_cover *cover; /* borrowed for the policy's life; NULL: none. For tools */
    struct identity_shown identity_shown; /* in log lines; borrowed */
    struct lua_policy_cpu cpu;
    struct lua_watchdog *watchdog;  /* enforces `cpu`; borrowed until close; NULL: not enforced */
    char *const *credential_params; /* query parameters only authenticate sees; borrowed */
    size_t credential_param_count;
};

struct lua_sources;

/* Loads and validates a policy; it does not take effect yet. On failure `e` names the file, the key or
 * line, and what was expected. Borrows loop and metrics until policy->life->close(); copies the
 * options. `sources` (may be NULL) gets the files, also on failure; the caller clears it. Any number
 * of policies may be open side by side. */
int lua_policy_open(const struct lua_policy_options *opt, struct loop *loop,
                    struct policy_metrics *metrics, struct policy **out,
                    struct lua_sources *sources, struct err *e);
/* SHA-256 of all its files, as hexadecimal digits; borrowed until close. */
const char *lua_policy_version(const struct policy *p);
/* It has no `authenticate`. */
bool lua_policy_admits_all(const struct policy *p);
/* Into `out`: the names of the settings that differ between two policies, borrowed from them. Returns
 * how many. */
size_t lua_policy_settings_changed(const struct policy *before, const struct policy *after,
                                   const char *out[2 * POLICY_SETTINGS_MAX]);
/* The state of its i-th set, by name; false: there are no more. */
bool lua_policy_set(const struct policy *p, size_t i, struct policy_set_state *out);
/* The name of its i-th filter or format, sorted; NULL: there are no more. Borrowed until close. */
const char *lua_policy_name(const struct policy *p, bool of_format, size_t i);

#endif
