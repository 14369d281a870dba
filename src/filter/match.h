/* Filter text: one condition over an event and the params of an audience, written as a subset of
 * Lua's expressions, checked at load, evaluated in nanoseconds without Lua.
 *
 *   starts_with(attrs.cell, $cell) and attrs.severity >= $min and not has(attrs.hidden)
 *
 *   values      "text" 12.5 true false, $name (of params), id topic type key time, attrs.x,
 * data.a.b, topic_seg(n), distance_km(lat1, lon1, lat2, lon2) conditions  == ~= < <= > >=, and or
 * not ( ), a value that is true or false, has(x), one_of(x, ...), starts_with(s, p), ends_with(s,
 * p), contains(list, x), cidr(ip, net)
 *
 * Where the types fit it means what Lua means by it. What Lua raises on, or answers by accident,
 * is plain false here: a comparison with a field that the event does not have (`~=` too), and one
 * of values of different types, which is counted. `not` turns that round as it is written. The text
 * has no loops and no patterns: its length bounds its cost.
 *
 * Pure; parsing is fuzzed against Lua's own evaluation. Loop thread only. */
#ifndef FILTER_MATCH_H
#define FILTER_MATCH_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strbuf.h"
#include "event/event.h"
#include "filter/match_value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MATCH_TEXT_MAX_BYTES = 8192,
    MATCH_DEPTH_MAX = 32,   /* of parentheses and `not` */
    MATCH_FIELDS_MAX = 256, /* different fields in all filters of a policy */
    MATCH_PATH_MAX = 16,    /* names in one data.a.b */
};

/* The filters of one policy. They share what they look up in an event. */
struct match_set;
/* One compiled text; lives as long as its set. */
struct match;
/* A text with the params of one audience. */
struct match_args;

struct match_error {
    size_t offset;         /* in the text, in bytes */
    unsigned line, column; /* both from 1 */
    char text[256];
};

struct match_set *match_set_new(void);
/* Every match_args must have been freed. NULL is fine. */
void match_set_free(struct match_set *set);
/* NULL: `e` says why and where. Not after the first match_test(). */
const struct match *match_compile(struct match_set *set, struct slice text, struct match_error *e);

/* `params`: a canonical JSON object of scalars and lists of scalars, copied; absent: none. Every
 * $name of the text must be among them, but for those it asks about with has($name). NULL: `e` says
 * why (UV_EINVAL, UV_ENOMEM). */
struct match_args *match_bind(const struct match *m, struct slice params, struct err *e);
void match_args_free(struct match_args *a); /* NULL is fine */

/* An attribute that must have one of these values for the text to be true: whoever knows many
 * audiences can leave most of them out. */
struct match_discriminator {
    struct slice attr; /* absent: there is none */
    const struct match_value *values;
    size_t count; /* 0: no value will do */
};
/* Borrowed until match_args_free(). */
struct match_discriminator match_discriminator(const struct match_args *a);

/* Is the event for the audience? False, too, when memory is short. Keeps a reference to the last
 * event. */
bool match_test(const struct match_args *a, struct event *ev);
/* The same, and how it came about: a line per condition looked at, with the values seen.
 *   starts_with(attrs.cell="u2ed", $cell="u2yh") = false
 * 0, or a negative UV_E* when `out` does not hold it all. */
__attribute__((warn_unused_result)) int match_explain(const struct match_args *a, struct event *ev,
                                                      bool *deliver, struct strbuf *out);

/* Every attribute (attrs.x) and place in the data (data.a.b; it makes every event's JSON be
 * scanned) the text names, as it is written, which is borrowed; some more than once. */
void match_reads(const struct match *m, void (*visit)(void *ctx, struct slice field, bool of_data),
                 void *ctx);

/* Comparisons, so far, of values whose types do not fit together. */
uint64_t match_set_mismatches(const struct match_set *set);
/* Comparisons, so far, with a field or param that was not there. */
uint64_t match_set_missing(const struct match_set *set);

#endif
