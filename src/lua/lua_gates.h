/* The gating hooks: one protected call per question, the answer copied into C. */
#ifndef LUA_LUA_GATES_H
#define LUA_LUA_GATES_H

#include "lua/lua_policy_file.h"
#include "lua/lua_publication.h"
#include "lua/lua_verdict.h"

struct gate {
    struct lua_vm *vm;
    const struct lua_policy_file *file;
    const struct policy_request *rq;
    enum policy_hook hook; /* set: the hook that ran last, for the log */
};

/* authenticate, then subscribe. 0: `d` holds the verdict (call verdict_draft_finish()). Negative:
 * `e` and lua_vm_failure() say what went wrong in `g->hook`. */
int lua_gate_subscribe(struct gate *g, struct verdict_draft *d, struct err *e);
/* authenticate, then publish for each of `asked`. On VERDICT_ALLOW `out` has the events and
 * first[i] the index of the first made of asked event i. */
int lua_gate_publish(struct gate *g, const struct event_list *asked, struct verdict_draft *d,
                     struct publication_out *out, size_t *first, struct err *e);
/* disconnect(who, info) */
int lua_gate_disconnect(struct gate *g, struct slice identity, const struct disconnect_info *info,
                        struct err *e);

#endif
