/* Values that filter texts compare: those of an event, of params, and constants. Numbers compare as
 * in Lua, exactly: 1 == 1.0, and 2^53 + 1 is no float. */
#ifndef FILTER_FILTER_VALUE_H
#define FILTER_FILTER_VALUE_H

#include "base/slice.h"
#include "base/strbuf.h"
#include "net/address.h"

#include <stdbool.h>
#include <stdint.h>

enum filter_type {
    FILTER_MISSING, /* no such field, or null */
    FILTER_BOOLEAN,
    FILTER_INTEGER,
    FILTER_FLOAT,
    FILTER_STRING,
    FILTER_LIST,    /* of params: `list` */
    FILTER_JSON,    /* an array or object of the data: its text is in `s` */
    FILTER_NETWORK, /* second argument of cidr() */
};

struct filter_value {
    enum filter_type type;
    bool b;
    union {
        int64_t i;
        double f;
        struct slice s;
        struct {
            const struct filter_value *v;
            size_t n;
        } list;
        const struct network *network;
    };
};

/* How `a` stands to `b`. */
enum filter_order {
    FILTER_LESS,
    FILTER_EQUAL,
    FILTER_GREATER,
    FILTER_UNORDERED, /* NaN */
    FILTER_UNEQUAL,   /* booleans that differ: neither is less */
    FILTER_DIFFERENT, /* types that do not fit together */
};
enum filter_order filter_value_compare(const struct filter_value *a, const struct filter_value *b);
bool filter_value_equal(const struct filter_value *a, const struct filter_value *b);

/* The value of a JSON text that was checked; a string with escapes is decoded to *room, which has
 * raw.n bytes and moves on behind it. Numbers outside 64 bits are floats. */
struct filter_value filter_value_of_json(struct slice raw, char **room);
/* A decimal numeral of Lua, with a sign and white space around it if need be? */
bool filter_value_of_numeral(struct slice text, struct filter_value *out);
/* Room that filter_value_of_json() needs: 0 but for a string with escapes. */
size_t filter_value_room(struct slice raw);

/* Canonical bytes, equal for equal values and for no others: a key for a hash. The string's own
 * bytes are borrowed: `tag` tells types apart, `scratch` holds numbers. Scalars only. */
struct filter_key {
    char tag;
    char scratch[8];
    struct slice bytes; /* into scratch or the value */
};
void filter_value_key(const struct filter_value *v, struct filter_key *out);

/* Appends the value as a person reads it; long ones are cut short. */
__attribute__((warn_unused_result)) int filter_value_print(const struct filter_value *v,
                                                           struct strbuf *out);

#endif
