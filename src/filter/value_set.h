/* A set of scalars that in_set() of filter texts asks. First it is filled, then sealed; from then on it
 * never changes. Values are equal as filter texts compare them: 1 and 1.0 are one value, "1" is
 * another. A set belongs to one thread at a time: it may be filled and sealed on another than the one
 * that asks it. */
#ifndef FILTER_VALUE_SET_H
#define FILTER_VALUE_SET_H

#include "base/err.h"
#include "filter/filter_value.h"

#include <stdbool.h>
#include <stddef.h>

enum { VALUE_SET_VALUE_MAX_BYTES = 4096 };

struct value_set;

/* `max_bytes`: of all its memory, sealed. */
struct value_set *value_set_new(size_t max_values, size_t max_bytes);
void value_set_free(struct value_set *s); /* NULL is fine */

/* Copies a scalar; what is equal to nothing (null, NaN) is left out. UV_EMSGSIZE: too many, or too
 * long; UV_ENOMEM; `e` says which limit. */
int value_set_add(struct value_set *s, const struct filter_value *v, struct err *e);
/* Once, after the last value: makes it ready to be asked. Takes about 100 ns for each value. */
int value_set_seal(struct value_set *s, struct err *e);

/* Of a sealed set: does it have the scalar `v`? */
bool value_set_has(const struct value_set *s, const struct filter_value *v);
/* Has it values, but none of the type of `v` (a number, a text, a boolean)? */
bool value_set_is_other_type(const struct value_set *s, const struct filter_value *v);
/* Different values, and bytes of memory. */
size_t value_set_count(const struct value_set *s);
size_t value_set_bytes(const struct value_set *s);

/* Where filter texts find the set that a name stands for now. NULL: there is none that may be trusted. */
struct value_slot {
    const struct value_set *values;
};

#endif
