/* Filters and formats that fail more often than not are put out of use until the policy is loaded
 * anew: they would only go on to cost time and log lines. */
#ifndef LUA_POLICY_LUA_HEALTH_H
#define LUA_POLICY_LUA_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

/* Of one function; begins as zeros. */
struct lua_health {
    unsigned calls, errors; /* since the last look */
    uint64_t failed_on;     /* id of the last event it raised on */
    bool quarantined;       /* do not call it: filter nothing through, format nothing */
};

enum {
    LUA_HEALTH_CALLS = 100,
    LUA_HEALTH_ERRORS = 50
}; /* more errors than that in so many calls */

/* After each call, with its result. An event that the function raises on counts once, however many
 * audiences it is for; using up the CPU time counts each time; memory that is short does not count.
 * True: that was too much, once. */
bool lua_health_note(struct lua_health *h, int rc, uint64_t event);

#endif
