/* The generations of the policy: loads another one beside the one in force, prepares and tries it,
 * and lets it take over between two turns of the loop. Whatever goes wrong before that leaves
 * everything as it was.
 *
 *   start -> [ load -> setup -> take over ]
 *   order -> [ load -> setup -> trial -> reload hook -> take over ], one at a time
 *
 * The one before stays warm for a while: it comes back by an order, or by itself when the new one
 * fails much more often (policy_health.h). Older ones are closed as soon as nothing of them waits.
 * Part of the composition root: all it drives are broker/policy.h, broker/broker.h,
 * broker/trial.h and lua/policy/lua_policy.h. */
#ifndef SERVER_POLICY_RELOAD_H
#define SERVER_POLICY_RELOAD_H

#include "admin/policy_report.h"
#include "broker/broker.h"
#include "lua/policy/lua_policy.h"
#include "net/loop.h"

struct policy_reload_options {
    const struct lua_policy_options *policy; /* borrowed */
    uint64_t warm_ms;                        /* the one before is kept for that long */
    unsigned watched_s; /* for that long a new one is compared with the one before; 0: not */
    bool watch_files;   /* a changed file is an order */
};

struct policy_reload;

struct policy_reload *policy_reload_new(struct loop *loop, struct broker *broker,
                                        struct broker_metrics *metrics,
                                        const struct policy_reload_options *opt);
/* Loads the first one; `ready` comes once, from the flush step, unless this fails at once. SIGHUP
 * is an order from then on. */
int policy_reload_start(struct policy_reload *r, policy_ready_cb ready, void *ctx, struct err *e);
/* Answered once, possibly at once; not, when all of it ends before. */
void policy_reload_order(struct policy_reload *r, const struct policy_order *order,
                         policy_report_cb cb, void *ctx, uint64_t token);
/* The one before comes back, and could be brought back in turn. Answered at once. */
void policy_reload_take_back(struct policy_reload *r, policy_report_cb cb, void *ctx,
                             uint64_t token);

/* The one in force; NULL: none yet. */
const struct policy *policy_reload_current(const struct policy_reload *r);
/* The one before, while it is warm. */
const struct policy *policy_reload_previous(const struct policy_reload *r);

/* Takes no more orders, closes its handles; what is under way is answered. */
void policy_reload_close(struct policy_reload *r);
/* The loop has run dry: nobody asks the policies any more. */
void policy_reload_free(struct policy_reload *r);

#endif
