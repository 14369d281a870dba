/* Fields of identities, for operators. An identity is a canonical JSON object of scalars; what is in it is
 * nobody's business but the policy's, unless the configuration names a field (admin_identity). Pure. */
#ifndef POLICY_IDENTITY_H
#define POLICY_IDENTITY_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>

/* The fields that may be shown. Borrowed. */
struct identity_shown {
    char *const *names;
    size_t count;
};

bool identity_is_shown(const struct identity_shown *shown, struct slice name);
/* The value of a field, as JSON. False: it has no such field. */
bool identity_field(struct slice identity, struct slice name, struct slice *json);
/* Has it that field, and does the value read so? Numbers and booleans read as in JSON. */
bool identity_field_is(struct slice identity, struct slice name, struct slice text);
/* Appends "sub=ann tenant=acme", as far as that fits: for log lines. */
void identity_describe(struct slice identity, const struct identity_shown *shown,
                       struct strbuf *out);

#endif
