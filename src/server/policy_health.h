/* Is a policy that has just taken over worse than the one before? Counts of calls and errors, taken
 * once a second; pure. */
#ifndef SERVER_POLICY_HEALTH_H
#define SERVER_POLICY_HEALTH_H

#include "broker/policy.h"

#include <stdbool.h>

enum {
    POLICY_HEALTH_SAMPLES = 60,    /* what "before" is: the last minute */
    POLICY_HEALTH_MOST_ERRORS = 5, /* so many may happen to any policy */
    POLICY_HEALTH_FACTOR = 5,      /* of the share of calls that failed before */
};

struct policy_count {
    uint64_t calls, errors;
};

struct policy_health {
    struct policy_count ring[POLICY_HEALTH_SAMPLES];
    unsigned next, n;
    struct policy_count taken_over; /* counts of the new one at that moment */
    struct policy_count before;     /* of the last minute of the old one */
    unsigned watched_s;             /* seconds left to watch the new one; 0: none */
};

/* Once a second, with the counts of the policy in force. */
void policy_health_sample(struct policy_health *h, const struct policy_figures *f);
/* Another one takes over, and is watched for so many seconds. */
void policy_health_swap(struct policy_health *h, const struct policy_figures *now,
                        const struct policy_figures *next, unsigned watched_s);
/* Is the one in force so much worse that the one before should come back? */
bool policy_health_worse(const struct policy_health *h, const struct policy_figures *f);

#endif
