/* Values that filter texts compare: those of an event, of params, and constants. Numbers compare as
 * in Lua, exactly: 1 == 1.0, and 2^53 + 1 is no float. */
#ifndef FILTER_MATCH_VALUE_H
#define FILTER_MATCH_VALUE_H

#include "base/slice.h"
#include "base/strbuf.h"
#include "net/address.h"

#include <stdbool.h>
#include <stdint.h>

enum match_type {
    MATCH_MISSING, /* no such field, or null */
    MATCH_BOOLEAN,
    MATCH_INTEGER,
    MATCH_FLOAT,
    MATCH_STRING,
    MATCH_LIST,    /* of params: `list` */
    MATCH_JSON,    /* an array or object of the data: its text is in `s` */
    MATCH_NETWORK, /* second argument of cidr() */
};

struct match_value {
    enum match_type type;
    bool b;
    union {
        int64_t i;
        double f;
        struct slice s;
        struct {
            const struct match_value *v;
            size_t n;
        } list;
        const struct network *network;
    };
};

/* How `a` stands to `b`. */
enum match_order {
    MATCH_LESS,
    MATCH_EQUAL,
    MATCH_GREATER,
    MATCH_UNORDERED, /* NaN */
    MATCH_UNEQUAL,   /* booleans that differ: neither is less */
    MATCH_DIFFERENT, /* types that do not fit together */
};
enum match_order match_value_compare(const struct match_value *a, const struct match_value *b);
bool match_value_equal(const struct match_value *a, const struct match_value *b);

/* The value of a JSON text that was checked; a string with escapes is decoded to *room, which has
 * raw.n bytes and moves on behind it. Numbers outside 64 bits are floats. */
struct match_value match_value_of_json(struct slice raw, char **room);
/* A decimal numeral of Lua, with a sign and white space around it if need be? */
bool match_value_of_numeral(struct slice text, struct match_value *out);
/* Room that match_value_of_json() needs: 0 but for a string with escapes. */
size_t match_value_room(struct slice raw);

/* Canonical bytes, equal for equal values and for no others: a key for a hash. The string's own
 * bytes are borrowed: `tag` tells types apart, `scratch` holds numbers. Scalars only. */
struct match_key {
    char tag;
    char scratch[8];
    struct slice bytes; /* into scratch or the value */
};
void match_value_key(const struct match_value *v, struct match_key *out);

/* Appends the value as a person reads it; long ones are cut short. */
__attribute__((warn_unused_result)) int match_value_print(const struct match_value *v,
                                                          struct strbuf *out);

#endif
