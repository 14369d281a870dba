/* Keeps lines that strangers cause from filling the log, where they are of many kinds: of each kind
 * one in ten seconds, and of new kinds so many in that time as there is room for. A metric counts all. */
#ifndef BASE_LOG_KINDS_H
#define BASE_LOG_KINDS_H

#include "base/log_pace.h"

#include <stddef.h>

enum { LOG_KINDS = 16 };

struct log_kinds_entry {
    uint64_t kind;
    struct log_pace pace;
    uint64_t left_out; /* since its last line */
};

/* Zeroed: none was logged. */
struct log_kinds {
    struct log_kinds_entry entries[LOG_KINDS];
    uint64_t others; /* left out, of kinds that are not there (any more) */
};

struct log_left_out {
    uint64_t same, others;
};

/* Is it time for a line of `kind`, a hash? Then `out` says what was left out before it. */
static inline bool log_kinds_take(struct log_kinds *k, uint64_t kind, uint64_t now_ms,
                                  struct log_left_out *out)
{
    struct log_kinds_entry *oldest = &k->entries[0], *e = NULL;
    for (size_t i = 0; i < LOG_KINDS && !e; i++) {
        struct log_kinds_entry *at = &k->entries[i];
        e = at->pace.logged_ms && at->kind == kind ? at : NULL;
        oldest = at->pace.logged_ms < oldest->pace.logged_ms ? at : oldest;
    }
    bool known = e != NULL;
    e = known ? e : oldest;
    if (!log_pace_take(&e->pace, now_ms)) {
        *(known ? &e->left_out : &k->others) += 1;
        return false;
    }
    k->others += known ? 0 : e->left_out;
    *out = (struct log_left_out){.same = known ? e->left_out : 0, .others = k->others};
    e->kind = kind;
    e->left_out = k->others = 0;
    return true;
}

#endif
