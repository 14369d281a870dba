/* The environment of policy files: scripts/lib/sandbox.lua runs in the raw state and leaves only
 * its allow-list; files are loaded as text from below one directory. */
#ifndef LUA_LUA_SANDBOX_H
#define LUA_LUA_SANDBOX_H

#include "base/err.h"
#include "lua/lua_sources.h"
#include "lua/lua_vm.h"

#include <stdint.h>

struct lua_cache;
struct keyring;
struct lua_coros;
struct lua_http_service;
struct lua_queries;
struct param_reads;

enum { LUA_FILE_MAX_BYTES = 1024 * 1024 };

/* Owned by whoever owns the vm; lives as long as it. */
struct lua_sandbox {
    const char *dir;               /* absolute, resolved: where `require` looks */
    int64_t (*unix_ms)(void *ctx); /* the broker's clock */
    void *ctx;
    struct keyring *keyring;           /* borrowed; NULL: there are no keys */
    struct lua_coros *coros;           /* borrowed; NULL: nothing can wait */
    struct lua_cache *cache;           /* borrowed; not NULL where something can */
    const struct lua_queries *queries; /* borrowed; NULL: the policy has none */
    struct lua_http_service *http;     /* borrowed; NULL: no targets */
    /* Sets further names in the environment, the table on top of the stack; NULL: none. */
    void (*extend)(lua_State *L, void *ctx);
    void *extend_ctx;
    struct lua_sources *sources;    /* gets every file that is loaded; may be NULL */
    char *const *credential_params; /* query parameters that no hook but authenticate sees */
    size_t credential_param_count;
    bool loading;              /* globals may be set, `require` works */
    bool tried;                /* not in force (yet): what it logs is of no interest */
    bool pure;                 /* a filter or format runs: no clock, no random numbers */
    struct param_reads *reads; /* while a format runs: what it has read of its params. Borrowed */
};

/* Makes the vm's globals the sandbox. Becomes the vm's host. */
int lua_sandbox_open(struct lua_vm *vm, struct lua_sandbox *sandbox, struct err *e);

/* Inside a body: pushes the compiled file (text only, never bytecode); errors name `chunk`. */
void lua_sandbox_load(lua_State *L, const char *path, const char *chunk);

#endif
