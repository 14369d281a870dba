/* One run of the policy's hooks for one request, from the call to the result: a job (the coroutine
 * that the hooks run in), its input, and the result. Hooks may wait, so nothing is borrowed from the
 * caller after the lua_hooks_*() function has returned.
 *
 * The result is delivered from the loop's flush step, never from inside the call. It does not need
 * the policy any more by then. */
#ifndef LUA_HOOKS_LUA_HOOKS_H
#define LUA_HOOKS_LUA_HOOKS_H

#include "lua/hooks/hook_call.h"

void lua_hooks_subscribe(const struct lua_hooks *s, const struct policy_request *rq,
                         policy_verdict_cb cb, void *ctx, uint64_t token);
/* subscribe without authenticate, for a stored request. */
void lua_hooks_resubscribe(const struct lua_hooks *s, const struct policy_request *rq,
                           struct slice identity, policy_verdict_cb cb, void *ctx, uint64_t token);
/* `cb` is not called if the policy is closed first. */
void lua_hooks_setup(const struct lua_hooks *s, const char *version, const char *previous,
                     policy_ready_cb cb, void *ctx);
/* Before publish; denies where there is no such hook. */
void lua_hooks_authenticate(const struct lua_hooks *s, const struct policy_request *rq,
                            policy_verdict_cb cb, void *ctx, uint64_t token);
/* Takes the references in `asked` and empties it. */
void lua_hooks_publish(const struct lua_hooks *s, const struct policy_request *rq,
                       struct event_list *asked, policy_publish_cb cb, void *ctx, uint64_t token);
void lua_hooks_disconnect(const struct lua_hooks *s, struct slice identity,
                          const struct disconnect_info *info);

/* Calls the hook reload(previous), which decides what happens to open streams when its policy takes
 * effect; RELOAD_RESUBSCRIBE without that hook. It cannot wait. */
int lua_hooks_reload(struct lua_vm *vm, const struct lua_budgets *budgets,
                     const struct lua_policy_file *f, const char *previous, enum reload_mode *out,
                     struct err *e);

#endif
