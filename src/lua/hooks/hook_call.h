/* One call of a hook, and the bodies that run in its coroutine. lua_hooks.c makes calls
 * and delivers their results; hook_*.c are the hooks. */
#ifndef LUA_HOOKS_HOOK_CALL_H
#define LUA_HOOKS_HOOK_CALL_H

#include "lua/hooks/lua_publication.h"
#include "lua/hooks/lua_verdict.h"
#include "lua/load/lua_policy_file.h"
#include "lua/vm/lua_coro.h"
#include "net/loop.h"
#include "policy/policy.h"

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
    /* Reports the end of a call: `rc` as of lua_job.done, never UV_ECANCELED. True: the hook failed because
     * of what is in the event that the client wants to publish. */
    bool (*settled)(void *ctx, const struct lua_hook_call *q, int rc, const struct err *e);
    /* A hook has returned, or failed. */
    void (*timed)(void *ctx, enum policy_hook hook, uint64_t wall_ns, uint64_t cpu_ns);
    void *ctx;
    bool closing; /* cancelled calls still deliver a result */
};

/* The decision, on its way to the caller. */
struct lua_hook_result {
    struct task task;
    struct verdict_draft draft;
    policy_verdict_cb on_verdict; /* one of the two */
    policy_publish_cb on_publish;
    void *ctx;
    uint64_t token;
    struct event_list events;      /* owned */
    struct publication_made *made; /* owned, as its texts are; `made_count` of them */
    size_t made_count;
};

/* The result of setup, on its way to the caller. */
struct lua_ready {
    struct task task;
    int rc;
    struct err e;
    policy_ready_cb cb;
    void *ctx;
};

struct lua_hook_call {
    struct lua_job job;
    const struct lua_hooks *shared;
    enum policy_hook hook;           /* the current or last one, for the log */
    struct lua_stopwatch watch;      /* of the current one */
    struct request_id request;       /* for the log; empty: none */
    const struct policy_request *rq; /* NULL once the first hook has its copy */
    struct lua_hook_result *result;  /* owned; NULL: the caller wants none */
    bool only;                       /* authenticate alone */
    bool unanswered;                 /* subscribe: see policy_request */
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

/* In the coroutine. Index 1 of its stack is the job, which belongs to the call. A hook is called with a
 * continuation: when it has waited, that is where it comes back, and not behind the call. */
struct lua_hook_call *hook_call_of(lua_State *L);
void hook_push(lua_State *L, struct lua_hook_call *q, enum policy_hook hook);
/* It has returned. */
void hook_popped(lua_State *L, struct lua_hook_call *q);
/* Pushes a new copy of the identity, from the canonical text: a hook cannot change the original. */
void hook_push_identity(lua_State *L, struct slice identity);

/* The bodies that a coroutine begins with. */
/* Then subscribe or publish, unless the call is for it alone. */
int hook_authenticate(lua_State *L);
int hook_resubscribe(lua_State *L);
int hook_publish_known(lua_State *L); /* authenticate was asked with the head of the request */
int hook_disconnect(lua_State *L);
int hook_setup(lua_State *L);

/* What authenticate goes on with. stack: job, request */
int hook_subscribe(lua_State *L, struct lua_hook_call *q);
/* stack: job, request or nil */
int hook_publish(lua_State *L, struct lua_hook_call *q);
/* A batch is all or none: the reason of the verdict says which of its events was in the way. Outside of the
 * coroutine, too. 0, or UV_ENOMEM. */
int hook_publish_name_event(struct lua_hook_call *q);

#endif
