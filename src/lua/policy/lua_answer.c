#include "lua/policy/lua_answer.h"

#include "base/xalloc.h"

#include <stdlib.h>

static void deliver(struct task *t)
{
    struct lua_answer *a = container_of(t, struct lua_answer, task);
    if (a->on_subscribe) {
        a->on_subscribe(a->ctx, a->token, &a->draft.v);
    } else {
        a->on_publish(a->ctx, a->token, &a->draft.v, &a->events, a->first);
    }
    lua_answer_free(a);
}

struct lua_answer *lua_answer_new(const struct policy_limits *limits, void *ctx, uint64_t token)
{
    struct lua_answer *a = xcalloc(1, sizeof *a);
    task_init(&a->task, deliver);
    a->ctx = ctx;
    a->token = token;
    verdict_draft_init(&a->draft, limits);
    return a;
}

void lua_answer_send(struct lua_answer *a, struct loop *loop)
{
    verdict_draft_finish(&a->draft);
    if (a->draft.v.kind != VERDICT_ALLOW) {
        event_list_clear(&a->events);
    }
    loop_defer(loop, &a->task);
}

void lua_answer_free(struct lua_answer *a)
{
    event_list_clear(&a->events);
    free(a->first);
    verdict_draft_clear(&a->draft);
    free(a);
}
