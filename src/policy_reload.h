/* The generations of the policy: loads another one beside the one in force, prepares and tries it,
 * and lets it take over between two turns of the loop. Whatever goes wrong before that leaves
 * everything as it was.
 *
 *   start -> [ load -> setup -> take over ]
 *   order -> [ load -> setup -> reload hook -> take over ], one at a time
 *
 * The one before stays warm for a while, to be taken back; older ones are closed as soon as they
 * have answered what they were asked. Part of the composition root: all it drives are
 * broker/policy.h, broker/broker.h and lua/lua_policy.h. */
#ifndef POLICY_RELOAD_H
#define POLICY_RELOAD_H

#include "admin/policy_report.h"
#include "broker/broker.h"
#include "lua/lua_policy.h"
#include "net/loop.h"

struct policy_reload_options {
    const struct lua_policy_options *policy; /* borrowed */
    uint64_t warm_ms;                        /* the one before is kept for that long */
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

/* The one in force; NULL: none yet. */
const struct policy *policy_reload_current(const struct policy_reload *r);

/* Takes no more orders, closes its handles; what is under way is answered. */
void policy_reload_close(struct policy_reload *r);
/* The loop has run dry: nobody asks the policies any more. */
void policy_reload_free(struct policy_reload *r);

#endif
