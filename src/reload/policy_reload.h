/* Reloads the policy: loads the new one beside the current one, sets it up, dry runs it, loads it once
 * more, so that what the dry run left in its locals is gone, and swaps the two between two turns of the
 * loop. After any fault before the swap the current policy stays.
 *
 *   start -> [ load -> setup -> take over ]
 *   order -> [ load -> setup -> dry run -> load -> setup -> reload hook -> take over ], one at a time
 *
 * The previous policy stays warm for a while for a rollback, which an operator requests, or which is
 * automatic when the new policy fails much more often (policy_rollback.h). Older ones are closed as
 * soon as no call of them waits. Part of the composition root: it uses policy/policy.h,
 * broker/broker.h, broker/dry_run.h and lua/policy/lua_policy.h. */
#ifndef RELOAD_POLICY_RELOAD_H
#define RELOAD_POLICY_RELOAD_H

#include "admin/answers/policy_report.h"
#include "broker/broker.h"
#include "lua/policy/lua_policy.h"
#include "net/loop.h"

struct policy_reload_options {
    const struct lua_policy_options *policy; /* borrowed */
    uint64_t warm_ms;                        /* how long the previous policy is kept */
    unsigned watched_s; /* how long a new policy is compared with the previous one; 0: not */
    bool watch_files;   /* reload when a file changes */
    bool on_hangup;     /* reload when SIGHUP comes */
    /* Brings settings and path in `policy` up to date, before each reload; on failure `e` says why they stay as
     * they are. NULL: they do not change. */
    int (*refresh)(void *ctx, struct err *e);
    /* A reload by SIGHUP begins (`rep` NULL), or is over. NULL: it is not reported. */
    void (*signalled)(void *ctx, const struct policy_report *rep);
    void *ctx;
};

struct policy_reload;

struct policy_reload *policy_reload_new(struct loop *loop, struct broker *broker,
                                        struct policy_metrics *metrics,
                                        const struct policy_reload_options *opt);
/* Loads the first policy. Calls `ready` once, from the flush step, unless this fails at once. */
int policy_reload_start(struct policy_reload *r, policy_ready_cb ready, void *ctx, struct err *e);
/* Reloads. Calls `cb` once, possibly before it returns; never if policy_reload_free() comes first. */
void policy_reload_order(struct policy_reload *r, const struct policy_order *order,
                         policy_report_cb cb, void *ctx, uint64_t token);
/* Rolls back: swaps the current and the previous policy. Calls `cb` before it returns. */
void policy_reload_rollback(struct policy_reload *r, policy_report_cb cb, void *ctx,
                            uint64_t token);

/* The current policy; NULL: none yet. */
struct policy *policy_reload_current(const struct policy_reload *r);
/* The previous policy, while it is warm; else NULL. */
const struct policy *policy_reload_previous(const struct policy_reload *r);

/* Accepts no more reloads and closes its handles; a running reload is answered. */
void policy_reload_close(struct policy_reload *r);
/* Call it when the loop has ended and no one calls the policies any more. */
void policy_reload_free(struct policy_reload *r);

#endif
