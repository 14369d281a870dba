/* Keeps lines that strangers cause from filling the log: of one kind, one in ten seconds. A metric counts all. */
#ifndef BASE_LOG_PACE_H
#define BASE_LOG_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum { LOG_PACE_MS = 10 * 1000 };

/* Zeroed: none was logged. */
struct log_pace {
    uint64_t logged_ms;
};

/* Is it time for a line? Then it counts as logged. `now_ms` never goes back. */
static inline bool log_pace_take(struct log_pace *p, uint64_t now_ms)
{
    if (p->logged_ms && now_ms - p->logged_ms < LOG_PACE_MS) {
        return false;
    }
    p->logged_ms = now_ms ? now_ms : 1;
    return true;
}

#endif
