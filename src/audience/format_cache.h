/* Results of formats, for as long as one flush step lasts: audiences that a format cannot tell
 * apart (policy_rules.format_keys) share one call, and the bytes it came to. */
#ifndef AUDIENCE_FORMAT_CACHE_H
#define AUDIENCE_FORMAT_CACHE_H

#include "base/slice.h"
#include "net/frame.h"
#include "policy/policy.h"

#include <stddef.h>
#include <stdint.h>

enum {
    FORMAT_CACHE_SLOTS = 8192,
    FORMAT_CACHE_ENTRIES_MAX = FORMAT_CACHE_SLOTS / 4 * 3,
    FORMAT_CACHE_BYTES_MAX = 16 << 20,
};

struct format_cache_entry {
    uint64_t event, key; /* key 0: the slot is free */
    struct frame *frame; /* a reference; NULL but for FORMAT_DELIVER */
    enum format_result result;
};

struct format_cache {
    struct format_cache_entry *slots; /* owned; NULL while nothing was remembered */
    size_t entries, bytes;
};

/* Zeroed memory is an empty format cache. */
void format_cache_clear(struct format_cache *m);
/* Forgets everything. */
void format_cache_reset(struct format_cache *m);
/* Borrowed until the next change; NULL: unknown. */
const struct format_cache_entry *format_cache_find(const struct format_cache *m, uint64_t event,
                                                   const uint64_t *keys, size_t n);
/* Remembers, unless the format cache is full. `frame`: NULL but for FORMAT_DELIVER; takes a reference of
 * its own. */
void format_cache_put(struct format_cache *m, uint64_t event, uint64_t key,
                      enum format_result result, struct frame *frame);
/* Is there room for one more of that size? */
bool format_cache_has_room(const struct format_cache *m, size_t bytes);

#endif
