/* CONTRACT: what a tool learns of a policy that runs, in order to say what its specs have not run. Costs
 * time. src/tools/test/test_cover.c implements it. */
#ifndef LUA_LOAD_LUA_COVER_H
#define LUA_LOAD_LUA_COVER_H

#include <lua.h>

struct lua_host;
struct lua_policy_file;

struct lua_cover {
    lua_Hook line; /* for each line; lua_vm_host() of its state has this struct as `cover` */
    /* A file of the policy of `host` is about to run: where it is, and what its functions say as their source. */
    void (*loaded)(void *ctx, const struct lua_host *host, const char *path, const char *chunk);
    /* The policy is about to be closed; conditions of its filters were counted. */
    void (*closing)(void *ctx, const struct lua_host *host, const struct lua_policy_file *file);
    void *ctx;
};

#endif
