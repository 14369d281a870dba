/* One run of the policy's hooks for one request, from the call to the result: a job (the coroutine
 * that the hooks run in), its input, and the result. Hooks may wait, so nothing is borrowed from the
 * caller after the lua_hooks_*() function has returned.
 *
 * The result is delivered from the loop's flush step, never from inside the call. It does not need
 * the policy any more by then. */
#ifndef LUA_HOOKS_LUA_HOOKS_H
#define LUA_HOOKS_LUA_HOOKS_H

#include "lua/hooks/lua_publication.h"
#include "lua/hooks/lua_verdict.h"
#include "lua/load/lua_policy_file.h"
#include "lua/vm/lua_coro.h"
#include "net/loop.h"

/* The decision, on its way to the caller. */
struct lua_hook_result {
    struct task task;
    struct verdict_draft draft;
    policy_verdict_cb on_verdict; /* one of the two */
    policy_publish_cb on_publish;
    void *ctx;
    uint64_t token;
    struct event_list events; /* owned */
    size_t *first;            /* owned */
};

struct lua_hook_call;

/* Shared by all calls of one policy; each borrows it. */
struct lua_hooks {
    struct loop *loop;
    struct lua_coros *coros;
    const struct lua_policy_file *file;
    const struct policy_limits *limits;
    const struct lua_budgets *budgets;
    size_t event_bytes; /* most of the data of one event a hook returns */
    size_t batch_bytes; /* most of all it returns for one request */
    uint64_t subscribe_timeout_ms, publish_timeout_ms;
    /* Reports the end of a call: `rc` as of lua_job.done, never UV_ECANCELED. */
    void (*settled)(void *ctx, const struct lua_hook_call *q, int rc, const struct err *e);
    void *ctx;
    bool closing; /* cancelled calls still deliver a result */
};

struct lua_hook_call {
    struct lua_job job;
    const struct lua_hooks *shared;
    enum policy_hook hook;           /* the current or last one, for the log */
    uint64_t request;                /* for the log; 0: none */
    const struct policy_request *rq; /* NULL once the first hook has its copy */
    struct lua_hook_result *result;  /* owned; NULL: the caller wants none */
    bool only;                       /* authenticate alone */
    /* publish */
    int (*events)(void *ctx, uint64_t token, struct event_list *out); /* NULL: `asked` is given */
    size_t body_bytes;                                                /* what they are made of */
    struct event_list asked;                                          /* owned */
    size_t at;                                                        /* in `asked` */
    struct publication_out out;
    /* disconnect, resubscribe, publish behind authenticate; borrowed until the hook was called */
    struct slice identity;
    const struct disconnect_info *info;
    /* setup; borrowed until its hook was called */
    const char *version, *previous;
    struct lua_ready *ready; /* owned */
};

/* The result of setup, on its way to the caller. */
struct lua_ready {
    struct task task;
    int rc;
    struct err e;
    policy_ready_cb cb;
    void *ctx;
};

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
