/* Token buckets by key, for all processes of a broker: a table of fixed size in memory that they share.
 *
 * A bucket is one number: the time at which it is full again if nothing more is taken (GCRA, the generic cell
 * rate algorithm of ITU-T I.371). A bucket that is full again is like one that was never used, so its place may
 * be given to another key and nothing is forgotten. A bucket that is not full stays. */
#ifndef QUOTA_RATE_TABLE_H
#define QUOTA_RATE_TABLE_H

#include "base/slice.h"

#include <stddef.h>
#include <stdint.h>

struct rate_table;

enum { RATE_NAME_MAX_BYTES = 64, RATE_KEY_MAX_BYTES = 1024 };

size_t rate_table_bytes(uint32_t keys);
/* At `t`, zeroed shared memory of that size. 0, or a negative UV_E*. */
int rate_table_init(struct rate_table *t, uint32_t keys);

struct rate_rule {
    uint64_t interval_ns; /* between two; at least 1 */
    uint64_t burst;       /* so many at once; at least 1. Their product is below 2^62 */
};

enum rate_answer {
    RATE_TAKEN,
    RATE_EMPTY,   /* nothing was taken */
    RATE_NO_ROOM, /* the key is new, and no bucket of the table is full again */
};

/* One token of the bucket of that name and key. Not taken: `wait_ns` is when to try again. `now_ns` is of one
 * clock for all processes, which never goes back. */
enum rate_answer rate_take(struct rate_table *t, struct slice name, struct slice key,
                           const struct rate_rule *rule, uint64_t now_ns, uint64_t *wait_ns);

/* Keys in the table, and how many there can be. */
void rate_table_figures(const struct rate_table *t, uint32_t *keys, uint32_t *capacity);

#endif
