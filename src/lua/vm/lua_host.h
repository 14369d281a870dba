/* The services of the C functions that scripts may call; lua_vm_host() returns it. This header knows
 * none of the services; lua_sandbox.c puts the parts together. */
#ifndef LUA_VM_LUA_HOST_H
#define LUA_VM_LUA_HOST_H

#include "lua/vm/lua_vm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lua_cache;
struct keyring;
struct lua_coros;
struct lua_cover;
struct lua_http_service;
struct lua_queries;
struct lua_rates;
struct lua_settings;
struct lua_sources;
struct param_reads;
struct policy_effects;

/* The owner of the vm owns it; it lives as long as the vm. */
struct lua_host {
    char *const *dirs; /* absolute, resolved: where `require` looks, in that order */
    size_t dir_count;
    int64_t (*unix_ms)(void *ctx); /* the broker's clock */
    void *ctx;
    struct keyring *keyring;           /* borrowed; NULL: there are no keys */
    struct lua_coros *coros;           /* borrowed; NULL: nothing can wait */
    struct lua_cache *cache;           /* borrowed; not NULL where something can */
    const struct lua_queries *queries; /* borrowed; NULL: the policy has none */
    struct lua_http_service *http;     /* borrowed; NULL: no targets */
    struct lua_rates *rates;           /* borrowed; NULL: tg.rate cannot be called */
    /* Sets further names in the environment, the table on top of the stack; NULL: none. */
    void (*extend)(lua_State *L, void *ctx);
    void *extend_ctx;
    const struct lua_settings *settings; /* borrowed while loading; NULL: none are given */
    const struct lua_cover *cover;       /* for tools; NULL: nothing is recorded */
    struct lua_sources *sources;         /* gets every file that is loaded; may be NULL */
    char *const *credential_params;      /* query parameters that no hook but authenticate sees */
    size_t credential_param_count;
    bool loading;                   /* globals may be set, `require` works */
    bool dry_run;                   /* what the policy does must have no effect */
    bool pure;                      /* a filter or format runs: no clock, no random numbers */
    struct policy_effects *effects; /* while observe runs: gets what it orders. Borrowed */
    struct param_reads *reads;      /* while a format runs: the params it has read. Borrowed */
};

/* Of the vm that owns `L`. */
static inline bool lua_host_is_dry_run(lua_State *L)
{
    const struct lua_host *s = lua_vm_host(L);
    return s && s->dry_run;
}

#endif
