/* One question to the policy, from being asked to being answered: a job (the coroutine its hooks
 * run in), what the hooks need, and the answer. Whatever a hook may wait in between, nothing here
 * is borrowed from the asker once the call that asked has returned. */
#ifndef LUA_POLICY_LUA_QUESTION_H
#define LUA_POLICY_LUA_QUESTION_H

#include "lua/policy/lua_answer.h"
#include "lua/policy/lua_budgets.h"
#include "lua/policy/lua_policy_file.h"
#include "lua/policy/lua_publication.h"
#include "lua/vm/lua_coro.h"

struct lua_question;

/* What all questions of one policy share. Borrowed by each. */
struct lua_questions {
    struct loop *loop;
    struct lua_coros *coros;
    const struct lua_policy_file *file;
    const struct policy_limits *limits;
    const struct lua_budgets *budgets;
    size_t event_bytes; /* most of the data of one event a hook returns */
    size_t batch_bytes; /* most of all it returns for one request */
    uint64_t subscribe_timeout_ms, publish_timeout_ms;
    /* Reports what became of it: `rc` as of lua_job.done, never UV_ECANCELED. */
    void (*settled)(void *ctx, const struct lua_question *q, int rc, const struct err *e);
    void *ctx;
    bool closing; /* what is cancelled now is answered all the same */
};

struct lua_question {
    struct lua_job job;
    const struct lua_questions *shared;
    enum policy_hook hook;           /* that runs, or ran last: for the log */
    uint64_t request;                /* for the log; 0: none */
    const struct policy_request *rq; /* NULL once the first hook has its copy */
    struct lua_answer *answer;       /* owned; NULL: nobody waits for one */
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

void lua_question_subscribe(const struct lua_questions *s, const struct policy_request *rq,
                            policy_verdict_cb cb, void *ctx, uint64_t token);
/* subscribe alone, for a kept request. */
void lua_question_resubscribe(const struct lua_questions *s, const struct policy_request *rq,
                              struct slice identity, policy_verdict_cb cb, void *ctx,
                              uint64_t token);
/* The answer does not come when the policy is closed before. */
void lua_question_setup(const struct lua_questions *s, const char *version, const char *previous,
                        policy_ready_cb cb, void *ctx);
/* Takes the references in `asked` and empties it. */
void lua_question_publish(const struct lua_questions *s, const struct policy_request *rq,
                          struct event_list *asked, policy_publish_cb cb, void *ctx,
                          uint64_t token);
void lua_question_disconnect(const struct lua_questions *s, struct slice identity,
                             const struct disconnect_info *info);

#endif
