/* An answer that was computed at once and is delivered from the loop's flush step, so that the
 * asker never gets it from inside its own call. */
#ifndef LUA_LUA_ANSWER_H
#define LUA_LUA_ANSWER_H

#include "lua/lua_verdict.h"
#include "net/loop.h"

struct lua_answer {
    struct task task;
    unsigned *pending; /* borrowed: how many answers are on their way */
    struct verdict_draft draft;
    policy_verdict_cb on_subscribe; /* one of the two */
    policy_publish_cb on_publish;
    void *ctx;
    uint64_t token;
    struct event_list events; /* owned */
    size_t *first;            /* owned */
};

/* Counted in *pending until it was delivered. */
struct lua_answer *lua_answer_new(const struct policy_limits *limits, unsigned *pending, void *ctx,
                                  uint64_t token);
/* Finishes the draft; the answer frees itself after its callback. */
void lua_answer_send(struct lua_answer *a, struct loop *loop);

#endif
