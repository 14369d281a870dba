/* "Did you mean ...": the known name that a mistyped one resembles. Pure. scripts/lib/schema.lua
 * has the same rule for settings: at most two errors, or one for three letters of a long name; one in
 * a name of up to three letters. Letter case does not count. */
#ifndef BASE_TEXT_NEAREST_H
#define BASE_TEXT_NEAREST_H

#include "base/slice.h"

#include <stddef.h>

/* Optimal string alignment distance: letters to insert, remove or replace, and neighbours to swap.
 * Names of more than 64 bytes are near to none. */
size_t nearest_distance(struct slice a, struct slice b);
/* The name nearest to `given`, the first of equals; NULL: none is near. */
const char *nearest_name(const char *const *names, size_t n, struct slice given);

#endif
