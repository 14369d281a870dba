/* Results of formats, for as long as one flush step lasts: audiences that a format cannot tell
 * apart (policy_rules.format_keys) share one call, and the bytes it came to. */
#ifndef BROKER_FRAME_MEMO_H
#define BROKER_FRAME_MEMO_H

#include "base/slice.h"
#include "broker/policy.h"
#include "net/frame.h"

#include <stddef.h>
#include <stdint.h>

enum {
    FRAME_MEMO_SLOTS = 8192,
    FRAME_MEMO_ENTRIES_MAX = FRAME_MEMO_SLOTS / 4 * 3,
    FRAME_MEMO_BYTES_MAX = 16 << 20,
};

struct frame_memo_entry {
    uint64_t event, key; /* key 0: the slot is free */
    struct frame *frame; /* a reference; NULL but for FORMAT_DELIVER */
    enum format_result result;
};

struct frame_memo {
    struct frame_memo_entry *slots; /* owned; NULL while nothing was remembered */
    size_t entries, bytes;
};

/* Zeroed memory is an empty memo. */
void frame_memo_clear(struct frame_memo *m);
/* Forgets everything. */
void frame_memo_reset(struct frame_memo *m);
/* Borrowed until the next change; NULL: unknown. */
const struct frame_memo_entry *frame_memo_find(const struct frame_memo *m, uint64_t event,
                                               const uint64_t *keys, size_t n);
/* Remembers, unless the memo is full. `frame`: NULL but for FORMAT_DELIVER; takes a reference of
 * its own. */
void frame_memo_put(struct frame_memo *m, uint64_t event, uint64_t key, enum format_result result,
                    struct frame *frame);
/* Is there room for one more of that size? */
bool frame_memo_has_room(const struct frame_memo *m, size_t bytes);

#endif
