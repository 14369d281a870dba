/* Open streams, counted by key, for all processes of a broker: a table of fixed size in memory that
 * they share.
 *
 * A stream is counted before it opens, in the same critical section that compares: of two processes
 * that ask for the last place of a key one gets it. Each place in the table names the process it
 * belongs to. When that process has ended, however it did, its places are given back by who uses the
 * table next. Places are the truth: all else is made of them again when a process died while it
 * changed the table. */
#ifndef QUOTA_QUOTA_TABLE_H
#define QUOTA_QUOTA_TABLE_H

#include "quota/quota_want.h"

#include <stddef.h>

struct quota_table;

/* Bytes of a table with that many places: a stream takes one for each of its keys. */
size_t quota_table_bytes(uint32_t places);
/* At `t`, zeroed shared memory of that size. 0, or a negative UV_E*. */
int quota_table_init(struct quota_table *t, uint32_t places);
/* Says that the process has ended, so that its places are given back. Never waits: for the supervisor,
 * before it starts another process. */
void quota_table_process_ended(struct quota_table *t, int pid);

struct quota_figures {
    uint32_t places, keys; /* in use */
    uint32_t capacity;     /* of places */
};
void quota_table_figures(const struct quota_table *t, struct quota_figures *out);

/* A key that is used up, for operators. */
struct quota_full {
    char key[QUOTA_KEY_MAX_BYTES + 1];
    uint32_t key_bytes;
    uint32_t streams, max; /* max: as it was said last */
    uint32_t denied;       /* since the key has streams */
};
/* The keys that are used up, those first that most was denied of; returns how many of `room` there
 * are. `total`: how many are used up. */
size_t quota_table_full(struct quota_table *t, struct quota_full *out, size_t room, size_t *total);

/* ---------------------------------------------------------------- one process */

struct quota_user {
    struct quota_table *table; /* NULL: has not joined */
    uint32_t owner;            /* which of those that use it */
};

enum { QUOTA_WORKERS = 64 };

/* `number`: of the worker, from 1, for quota_change(). 0; UV_EAGAIN: too many processes use it. */
int quota_join(struct quota_user *u, struct quota_table *t, int pid, unsigned number);
/* Gives back what is left. */
void quota_leave(struct quota_user *u);

/* What a stream holds. Zeros: nothing. */
struct quota_hold {
    uint32_t n;
    uint32_t places[QUOTAS_PER_STREAM];
};

enum quota_answer {
    QUOTA_GRANTED,
    QUOTA_DENIED,  /* the key has its streams already */
    QUOTA_NO_ROOM, /* the table is full */
};

struct quota_outcome {
    size_t which;   /* denied: of which want */
    uint64_t tells; /* granted: workers (bit number - 1) that have streams to end */
};

/* The stream is to count for these keys, and no others: n = 0 when it has ended. Granted as a whole, or
 * `hold` and all counts stay as they are. A key that it counts for already is kept whatever its max.
 */
enum quota_answer quota_change(struct quota_user *u, uint64_t stream, struct quota_hold *hold,
                               const struct quota_want *wants, size_t n, struct quota_outcome *out);

/* A stream that is to end, because a newer one has its place. It stays in the list until it has. */
struct quota_ended {
    uint64_t stream;
    uint32_t max;
    uint32_t key_bytes;
    char key[QUOTA_KEY_MAX_BYTES];
};
/* How many there are of this process. Cheap. */
size_t quota_to_end(const struct quota_user *u);
/* Copies some; returns how many. The next call goes on with those behind them, and begins again when it has
 * shown all. */
size_t quota_ended(struct quota_user *u, struct quota_ended *out, size_t room);
/* Gives back what ended processes held. Cheap when there is none. */
void quota_sweep(struct quota_user *u);
/* The key of a place that is held, borrowed until it is not; whether it is to end. */
struct slice quota_key_of(const struct quota_user *u, uint32_t place);

#endif
