/* One call of the policy's hooks for one request, from being asked to being answered: a job (the
 * coroutine that the hooks run in), what they need, and the result. Whatever a hook waits for in
 * between, nothing here is borrowed from the asker once the function that asked has returned.
 *
 * A result goes out from the loop's flush step, so that the asker never gets it from inside its own
 * call; by then it needs the policy no more. */
#ifndef LUA_POLICY_LUA_HOOK_CALL_H
#define LUA_POLICY_LUA_HOOK_CALL_H

#include "lua/policy/lua_policy_file.h"
#include "lua/policy/lua_publication.h"
#include "lua/policy/lua_verdict.h"
#include "lua/vm/lua_coro.h"
#include "net/loop.h"

/* What was decided, on its way to the asker. */
struct lua_hook_result {
    struct task task;
    struct verdict_draft draft;
    policy_verdict_cb on_subscribe; /* one of the two */
    policy_publish_cb on_publish;
    void *ctx;
    uint64_t token;
    struct event_list events; /* owned */
    size_t *first;            /* owned */
};

struct lua_hook_call;

/* What all questions of one policy share. Borrowed by each. */
struct lua_hook_calls {
    struct loop *loop;
    struct lua_coros *coros;
    const struct lua_policy_file *file;
    const struct policy_limits *limits;
    const struct lua_budgets *budgets;
    size_t event_bytes; /* most of the data of one event a hook returns */
    size_t batch_bytes; /* most of all it returns for one request */
    uint64_t subscribe_timeout_ms, publish_timeout_ms;
    /* Reports what became of it: `rc` as of lua_job.done, never UV_ECANCELED. */
    void (*settled)(void *ctx, const struct lua_hook_call *q, int rc, const struct err *e);
    void *ctx;
    bool closing; /* what is cancelled now is answered all the same */
};

struct lua_hook_call {
    struct lua_job job;
    const struct lua_hook_calls *shared;
    enum policy_hook hook;           /* that runs, or ran last: for the log */
    uint64_t request;                /* for the log; 0: none */
    const struct policy_request *rq; /* NULL once the first hook has its copy */
    struct lua_hook_result *result;  /* owned; NULL: nobody waits for one */
    /* publish */
    struct event_list asked; /* owned */
    size_t at;               /* in `asked` */
    struct publication_out out;
    /* disconnect, and subscribe asked again; borrowed until the hook was called */
    struct slice identity;
    const struct disconnect_info *info;
    /* setup; borrowed until its hook was called */
    const char *version, *previous;
    struct lua_ready *ready; /* owned */
};

/* How a preparation ended, on its way. */
struct lua_ready {
    struct task task;
    int rc;
    struct err e;
    policy_ready_cb cb;
    void *ctx;
};

void lua_hook_call_subscribe(const struct lua_hook_calls *s, const struct policy_request *rq,
                             policy_verdict_cb cb, void *ctx, uint64_t token);
/* subscribe alone, for a kept request. */
void lua_hook_call_resubscribe(const struct lua_hook_calls *s, const struct policy_request *rq,
                               struct slice identity, policy_verdict_cb cb, void *ctx,
                               uint64_t token);
/* The answer does not come when the policy is closed before. */
void lua_hook_call_setup(const struct lua_hook_calls *s, const char *version, const char *previous,
                         policy_ready_cb cb, void *ctx);
/* Takes the references in `asked` and empties it. */
void lua_hook_call_publish(const struct lua_hook_calls *s, const struct policy_request *rq,
                           struct event_list *asked, policy_publish_cb cb, void *ctx,
                           uint64_t token);
void lua_hook_call_disconnect(const struct lua_hook_calls *s, struct slice identity,
                              const struct disconnect_info *info);

/* The hook that says what becomes of open streams when its policy takes over: reload(previous);
 * RELOAD_RESUBSCRIBE where there is no such hook. It cannot wait. */
int lua_hook_call_reload(struct lua_vm *vm, const struct lua_budgets *budgets,
                         const struct lua_policy_file *f, const char *previous,
                         enum reload_mode *out, struct err *e);

#endif
