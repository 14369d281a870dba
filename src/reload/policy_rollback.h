/* Decides whether a new policy is worse than the previous one, from counts of calls and errors that
 * are sampled once a second. Pure. */
#ifndef RELOAD_POLICY_ROLLBACK_H
#define RELOAD_POLICY_ROLLBACK_H

#include "policy/policy.h"

#include <stdbool.h>

enum {
    POLICY_ROLLBACK_SAMPLES = 60,    /* what "before" is: the last minute */
    POLICY_ROLLBACK_MOST_ERRORS = 5, /* tolerated in any case */
    POLICY_ROLLBACK_FACTOR = 5,      /* times the error rate of the previous policy */
};

struct policy_count {
    uint64_t calls, errors;
};

struct policy_rollback {
    struct policy_count ring[POLICY_ROLLBACK_SAMPLES];
    unsigned next, n;
    struct policy_count taken_over; /* counts of the new one at that moment */
    struct policy_count before;     /* of the last minute of the old one */
    unsigned watched_s;             /* seconds left to watch the new one; 0: none */
};

/* Call it once a second, with the counts of the current policy. */
void policy_rollback_sample(struct policy_rollback *h, const struct policy_figures *f);
/* Another policy takes effect, and is watched for `watched_s` seconds. */
void policy_rollback_swap(struct policy_rollback *h, const struct policy_figures *now,
                          const struct policy_figures *next, unsigned watched_s);
/* Is the current policy so much worse than the previous one that a rollback is due? */
bool policy_rollback_due(const struct policy_rollback *h, const struct policy_figures *f);

#endif
