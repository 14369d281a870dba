/* A set of a policy, for people. */
#ifndef POLICY_POLICY_SET_H
#define POLICY_POLICY_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct policy_set_state {
    const char *name; /* borrowed from the policy, as `error` */
    bool trusted;     /* it has values that filters may ask */
    size_t entries, bytes;
    int64_t age_ms; /* since the last good load; negative: there was none */
    uint64_t every_ms, stale_ms, loads, failures;
    const char *error; /* of the last load; empty: it was good */
};

#endif
