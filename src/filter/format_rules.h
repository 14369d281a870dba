/* Takes parts out of JSON text, or puts others in their place, without decoding it: every byte that
 * no rule is about stays as it was written. Pure, fuzzed against jansson.
 *
 * A path is a list of names separated by dots: `customer.ssn`. `*` matches every member of an object
 * or every element of an array. A name also matches in the elements of an array, however deep:
 * `items.price` is the price of each of the items. So does `*` in a path that hides (drop, mask):
 * `*.ssn` matches in an object and in a list of such objects. In a path that shows (keep) an element
 * is a step of its own, because data that was shown by mistake cannot be hidden again. "\\." "\\*" and
 * "\\\\" are the characters. Names are compared decoded; a rule applies to all equal names. */
#ifndef FILTER_FORMAT_RULES_H
#define FILTER_FORMAT_RULES_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strbuf.h"

enum {
    FORMAT_RULES_RULES_MAX = 64,
    FORMAT_RULES_PATH_MAX_BYTES = 512,
    FORMAT_RULES_STEPS_MAX = 16,
    FORMAT_RULES_DEPTH_MAX =
        64, /* of what a path leads into; the rest may be as deep as JSON_TEXT */
};

struct format_rules;

enum format_rules_rule {
    FORMAT_RULES_DROP, /* removes what the path matches */
    FORMAT_RULES_KEEP, /* removes what no `keep` path matches; not together with drop */
    FORMAT_RULES_MASK, /* replaces what the path matches */
};

struct format_rules *format_rules_new(void);
void format_rules_free(struct format_rules *edit); /* NULL is fine */
/* Adds a rule; of several masks for one value the first counts. `replacement`: JSON text of a
 * scalar, for a mask. 0, or UV_EINVAL. */
int format_rules_add(struct format_rules *edit, enum format_rules_rule rule, struct slice path,
                     struct slice replacement, struct err *e);
/* Appends the edited text. UV_EINVAL: the text is not JSON, a path goes deeper than
 * FORMAT_RULES_DEPTH_MAX, or there is nothing for `keep` to keep; UV_ENOBUFS, UV_ENOMEM: `out` is too
 * small. On failure `out` is unchanged. */
__attribute__((warn_unused_result)) int format_rules_apply(const struct format_rules *edit,
                                                           struct slice text, struct strbuf *out,
                                                           struct err *e);

#endif
