/* Takes parts out of JSON text, or puts others in their place, without decoding it: every byte that
 * no rule is about stays as it was written. Pure, fuzzed against jansson.
 *
 * A path is names with points between: `customer.ssn`. `*` is every member of an object or every
 * element of an array; a name also looks into the elements of an array on its way, however deep:
 * `items.price` is the price of each of the items. So does `*` in a path that hides (drop, mask):
 * `*.ssn` is found in an object and in a list of such objects; in one that shows (keep) an element
 * is a step, for what is shown by mistake cannot be hidden again. "\\." "\\*" and "\\\\" are the
 * characters. Names are compared as they are decoded, and all of equal names are meant. */
#ifndef FILTER_JSON_EDIT_H
#define FILTER_JSON_EDIT_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strbuf.h"

enum {
    JSON_EDIT_RULES_MAX = 64,
    JSON_EDIT_PATH_MAX_BYTES = 512,
    JSON_EDIT_STEPS_MAX = 16,
    JSON_EDIT_DEPTH_MAX =
        64, /* of what a path leads into; the rest may be as deep as JSON_SYNTAX */
};

struct json_edit;

enum json_edit_rule {
    JSON_EDIT_DROP, /* what the path leads to is left out */
    JSON_EDIT_KEEP, /* what no path of this kind leads to is left out; not together with drop */
    JSON_EDIT_MASK, /* it is replaced */
};

struct json_edit *json_edit_new(void);
void json_edit_free(struct json_edit *edit); /* NULL is fine */
/* Adds a rule; of several masks for one value the first counts. `replacement`: JSON text of a
 * scalar, for a mask. 0, or UV_EINVAL. */
int json_edit_add(struct json_edit *edit, enum json_edit_rule rule, struct slice path,
                  struct slice replacement, struct err *e);
/* Appends the edited text. UV_EINVAL: the text is no JSON, a path leads deeper than
 * JSON_EDIT_DEPTH_MAX, or there is nothing a `keep` could keep; UV_ENOBUFS, UV_ENOMEM: `out` is too
 * small. On failure `out` holds what it held before. */
__attribute__((warn_unused_result)) int
json_edit_apply(const struct json_edit *edit, struct slice text, struct strbuf *out, struct err *e);

#endif
