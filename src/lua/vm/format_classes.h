/* Which audiences a format cannot tell apart: those whose params are equal in what it reads of
 * them. What its calls have read so far is a set of names that grows; each size it had, up to a
 * few, is tried for every audience of it. Formats are pure: equal events and equal values of what
 * is read give equal results. */
#ifndef LUA_VM_FORMAT_CLASSES_H
#define LUA_VM_FORMAT_CLASSES_H

#include "base/slice.h"
#include "policy/policy.h"

#include <stdbool.h>
#include <stdint.h>

/* The names of params that a call has read. */
struct param_reads {
    bool all; /* more than fit here, or the table as a whole */
    uint16_t used;
    char names[512]; /* each with two bytes of length before it */
};
void param_reads_add(struct param_reads *r, struct slice name);

enum { FORMAT_SHAPES_MAX = POLICY_FORMAT_KEYS_MAX };

struct format_class;
struct format_classes;

/* An audience's classes, by the format's sets of names; zeroed at first. */
struct format_class_cache {
    struct format_class *v[FORMAT_SHAPES_MAX];
};

struct format_classes *format_classes_new(size_t formats);
/* Every cache must have been cleared. NULL is fine. */
void format_classes_free(struct format_classes *c);
/* What filters have read of params so far: a format may find what they kept. Borrowed. */
struct param_reads *format_classes_filter_reads(struct format_classes *c);
/* Keys of the classes that params (canonical JSON) belong to; see policy_rules.format_keys. */
size_t format_classes_keys(struct format_classes *c, size_t format, struct slice params,
                           struct format_class_cache *cache, uint64_t keys[POLICY_FORMAT_KEYS_MAX]);
/* The key for a result that came of these reads; 0: memory is short. */
uint64_t format_classes_key(struct format_classes *c, size_t format, struct slice params,
                            struct format_class_cache *cache, const struct param_reads *reads);
void format_class_cache_clear(struct format_classes *c, struct format_class_cache *cache);

#endif
