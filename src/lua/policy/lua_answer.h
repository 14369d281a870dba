/* An answer on its way: delivered from the loop's flush step, so that the asker never gets it from
 * inside its own call. Needs the policy no more. */
#ifndef LUA_POLICY_LUA_ANSWER_H
#define LUA_POLICY_LUA_ANSWER_H

#include "lua/policy/lua_verdict.h"
#include "net/loop.h"

struct lua_answer {
    struct task task;
    struct verdict_draft draft;
    policy_verdict_cb on_subscribe; /* one of the two */
    policy_publish_cb on_publish;
    void *ctx;
    uint64_t token;
    struct event_list events; /* owned */
    size_t *first;            /* owned */
};

/* `limits` is borrowed until the answer is sent. */
struct lua_answer *lua_answer_new(const struct policy_limits *limits, void *ctx, uint64_t token);
/* Finishes the draft; the answer frees itself after its callback. */
void lua_answer_send(struct lua_answer *a, struct loop *loop);
/* Nobody is to get it. */
void lua_answer_free(struct lua_answer *a);

#endif
