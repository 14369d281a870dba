/* Filter text: one condition over an event and the params of an audience, written as a subset of
 * Lua's expressions, checked at load, evaluated in nanoseconds without Lua.
 *
 *   starts_with(attrs.cell, $cell) and attrs.severity >= $min and not has(attrs.hidden)
 *
 *   values      "text" 12.5 true false, $name (of params), id topic type key time,
 *               attrs.x, data.a.b, topic_seg(n), tonumber(x), distance_km(lat1, lon1, lat2, lon2)
 *   conditions  == ~= < <= > >=, and or not ( ), a value that is true or false, has(x),
 *               one_of(x, ...), starts_with(s, p), ends_with(s, p), contains(list, x),
 *               cidr(ip, net), in_set(x, "name of a set of the policy"), fits_template(s, t),
 *               fits_url_pattern(s, p)
 *
 * Where the types fit, a condition means what Lua means by it. Where Lua raises an error, or answers
 * by accident, it is false: a comparison with a field that the event does not have (`~=` too), and a
 * comparison of different types, which is counted. `not` inverts that result. The text has no loops
 * and no patterns: its length bounds its cost.
 *
 * Pure; parsing is fuzzed against Lua's own evaluation. Loop thread only. */
#ifndef FILTER_FILTER_H
#define FILTER_FILTER_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strbuf.h"
#include "event/event.h"
#include "filter/filter_value.h"
#include "filter/value_set.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FILTER_TEXT_MAX_BYTES = 8192,
    FILTER_DEPTH_MAX = 32,   /* of parentheses and `not` */
    FILTER_FIELDS_MAX = 256, /* different fields in all filters of a policy */
    FILTER_PATH_MAX = 16,    /* names in one data.a.b */
    FILTER_SETS_MAX = 64,    /* sets of a policy */
};

/* The filters of one policy. They share the values that they look up in an event. */
struct filter_set;
/* One compiled text; lives as long as its set. */
struct filter;
/* A text with the params of one audience. */
struct filter_args;

struct filter_error {
    size_t offset;         /* in the text, in bytes */
    unsigned line, column; /* both from 1 */
    char text[256];
};

struct filter_set *filter_set_new(void);
/* Every filter_args must have been freed. NULL is fine. */
void filter_set_free(struct filter_set *set);
/* For tools, before the first text: it is counted how often each condition was true, and false. No text has a
 * discriminator then, by which an index would pass over conditions. */
void filter_set_count(struct filter_set *set);

/* Declares a set for in_set(), before the texts that name it are compiled. `name` is borrowed until
 * filter_set_free(). False: there are FILTER_SETS_MAX. */
bool filter_set_add_values(struct filter_set *set, const char *name);
/* Where its values are; borrowed until filter_set_free(). They may be exchanged at any time but while a
 * text is tested. Before this call it has none. */
void filter_set_bind_values(struct filter_set *set, const char *name,
                            const struct value_slot *slot);
/* Does some text name a set that was declared? */
bool filter_set_uses_values(struct filter_set *set, const char *name);

/* NULL: `e` says why and where. Not after the first filter_test(). */
const struct filter *filter_compile(struct filter_set *set, struct slice text,
                                    struct filter_error *e);

/* `params`: a canonical JSON object of scalars and lists of scalars, copied; absent: none. It must
 * have every $name of the text, except those that the text tests with has($name). NULL: `e` says why
 * (UV_EINVAL, UV_ENOMEM). */
struct filter_args *filter_bind(const struct filter *m, struct slice params, struct err *e);
void filter_args_free(struct filter_args *a); /* NULL is fine */

/* An attribute that must have one of these values for the text to be true. An index over many
 * audiences can thereby skip most of them. */
struct filter_discriminator {
    struct slice attr; /* absent: there is none */
    const struct filter_value *values;
    size_t count; /* 0: the text is never true */
};
/* Borrowed until filter_args_free(). */
struct filter_discriminator filter_discriminator(const struct filter_args *a);

/* One comparison or function of a text. */
struct filter_condition {
    struct slice text; /* as it is written, without what is around it */
    size_t offset;     /* in the filter's text, in bytes */
    uint64_t yes, no;  /* results of filter_test() */
};
/* In the order they are looked at; of a set that counts. */
void filter_each_condition(const struct filter *m,
                           void (*each)(void *ctx, const struct filter_condition *c), void *ctx);
/* The text itself. */
struct slice filter_text(const struct filter *m);

/* Does the event match? False also when memory is short, and when the text asked a set that has no values
 * that may be trusted, whatever else it says. Keeps a reference to the last event. */
bool filter_test(const struct filter_args *a, struct event *ev);
/* The same, and why: a line per evaluated condition, with the values it saw.
 *   starts_with(attrs.cell="u2ed", $cell="u2yh") = false
 * 0, or a negative UV_E* when `out` does not hold it all. */
__attribute__((warn_unused_result)) int
filter_explain(const struct filter_args *a, struct event *ev, bool *deliver, struct strbuf *out);

/* Visits every attribute (attrs.x) and place in the data (data.a.b, for which every event's JSON is
 * scanned) that the text names, as written and borrowed; some more than once. */
void filter_reads(const struct filter *m,
                  void (*visit)(void *ctx, struct slice field, bool of_data), void *ctx);

/* Comparisons, so far, of values whose types do not fit together. */
uint64_t filter_set_mismatches(const struct filter_set *set);
/* Comparisons, so far, with a field or param that was not there. */
uint64_t filter_set_missing(const struct filter_set *set);
/* Tests, so far, that were false because a set had no values. */
uint64_t filter_set_refused(const struct filter_set *set);

#endif
