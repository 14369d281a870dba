/* Takes parts out of JSON text, or puts others in their place, without decoding it: every byte that
 * no rule is about stays as it was written. Pure, fuzzed against jansson.
 *
 * A path is names with points between: `customer.ssn`. `*` is every member of an object or every
 * element of an array; a name also looks into the elements of an array on its way, however deep:
 * `items.price` is the price of each of the items. So does `*` in a path that hides (drop, mask):
 * `*.ssn` is found in an object and in a list of such objects; in one that shows (keep) an element
 * is a step, for what is shown by mistake cannot be hidden again. "\\." "\\*" and "\\\\" are the
 * characters. Names are compared as they are decoded, and all of equal names are meant. */
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
    FORMAT_RULES_DROP, /* what the path leads to is left out */
    FORMAT_RULES_KEEP, /* what no path of this kind leads to is left out; not together with drop */
    FORMAT_RULES_MASK, /* it is replaced */
};

struct format_rules *format_rules_new(void);
void format_rules_free(struct format_rules *edit); /* NULL is fine */
/* Adds a rule; of several masks for one value the first counts. `replacement`: JSON text of a
 * scalar, for a mask. 0, or UV_EINVAL. */
int format_rules_add(struct format_rules *edit, enum format_rules_rule rule, struct slice path,
                     struct slice replacement, struct err *e);
/* Appends the edited text. UV_EINVAL: the text is no JSON, a path leads deeper than
 * FORMAT_RULES_DEPTH_MAX, or there is nothing a `keep` could keep; UV_ENOBUFS, UV_ENOMEM: `out` is
 * too small. On failure `out` holds what it held before. */
__attribute__((warn_unused_result)) int format_rules_apply(const struct format_rules *edit,
                                                           struct slice text, struct strbuf *out,
                                                           struct err *e);

#endif
