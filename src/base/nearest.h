/* "Did you mean ...": the known name that a mistyped one resembles. Pure. */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

/* How many letters to insert, remove or replace to make `b` of `a`; only the first 48 count. */
size_t nearest_distance(const char *a, const char *b);

/* The name most like `given`; NULL when none is near. */
const char *nearest_name(const char *const *names, size_t n, const char *given);

#endif
