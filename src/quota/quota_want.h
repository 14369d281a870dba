/* What a policy asks to be counted about a stream. */
#ifndef QUOTA_QUOTA_WANT_H
#define QUOTA_QUOTA_WANT_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    QUOTA_KEY_MAX_BYTES = 128,
    QUOTAS_PER_STREAM = 4,
    QUOTA_STREAMS_MAX = 1000000, /* of one key */
};

struct quota_want {
    struct slice key; /* 1 to QUOTA_KEY_MAX_BYTES; not twice for one stream */
    uint32_t max;     /* streams of that key at a time; at least 1 */
    bool oldest;      /* beyond it the oldest stream of the key ends; else the newest is denied */
};

#endif
