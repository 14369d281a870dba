/* A borrowed run of bytes. Not NUL-terminated. The function that returns one says how long it lives. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct slice {
    const char *p; /* NULL: absent; an empty value has p != NULL and n == 0 */
    size_t n;
};

static inline struct slice slice_of(const char *p, size_t n)
{
    return (struct slice){p, n};
}

/* `text` may be NULL: the absent slice. */
static inline struct slice slice_str(const char *text)
{
    return (struct slice){text, text ? strlen(text) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_is(struct slice a, const char *text)
{
    return slice_eq(a, slice_str(text));
}

/* ASCII case-insensitive, for header names, hosts and media types. */
static inline bool slice_eq_nocase(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_is_nocase(struct slice a, const char *text)
{
    return slice_eq_nocase(a, slice_str(text));
}

#endif
