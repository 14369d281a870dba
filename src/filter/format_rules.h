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

#include <stdbool.h>

enum {
    FORMAT_RULES_RULES_MAX = 64,
    FORMAT_RULES_SETS_MAX = 16,
    FORMAT_RULES_PATH_MAX_BYTES = 512,
    FORMAT_RULES_STEPS_MAX = 16,
    FORMAT_RULES_DEPTH_MAX =
        64, /* of what a path leads into; the rest may be as deep as JSON_TEXT */
};

struct format_rules;

enum format_rules_rule {
    FORMAT_RULES_DROP,   /* removes what the path matches */
    FORMAT_RULES_KEEP,   /* removes what no `keep` path matches; not together with drop */
    FORMAT_RULES_MASK,   /* replaces what the path matches by `text`, JSON of a scalar */
    FORMAT_RULES_HASH,   /* see format_values.h; `text`: the key */
    FORMAT_RULES_ROUND,  /* `n` decimals */
    FORMAT_RULES_CUT,    /* `n` characters */
    FORMAT_RULES_RENAME, /* gives the member that the path matches the name `text` */
};

struct format_rule {
    enum format_rules_rule kind;
    struct slice path;
    struct slice text;
    unsigned n;
};

/* hash, round and cut reach the elements of an array that the path matches, however deep; an object becomes null. Of
 * several of mask, hash, round and cut for one value the first that was added counts. Paths are those of the data
 * before: a member that is renamed is matched by its old name. Where an object has a member of the new name as well,
 * the renamed one takes its place. */
struct format_rules *format_rules_new(void);
void format_rules_free(struct format_rules *edit); /* NULL is fine */
/* Copies the rule. 0, or UV_EINVAL. */
int format_rules_add(struct format_rules *edit, const struct format_rule *rule, struct err *e);
/* The object that the data is gets a member `name`, in place of one it may have: `text` is the JSON of a scalar, or
 * the name of a member of params. 0, or UV_EINVAL. */
int format_rules_set(struct format_rules *edit, struct slice name, struct slice text,
                     bool of_params, struct err *e);
/* The params that it reads, one after the other; false: no more. */
bool format_rules_param(const struct format_rules *edit, unsigned i, struct slice *name);
/* Appends the edited text. `params`: a JSON object, which has all that it reads as scalars; or absent. UV_EINVAL: the
 * text is not JSON, a path goes deeper than FORMAT_RULES_DEPTH_MAX, there is nothing for `keep` to keep, or no object
 * to set a member of; UV_ENOBUFS, UV_ENOMEM: `out` is too
 * small. On failure `out` is unchanged. */
__attribute__((warn_unused_result)) int format_rules_apply(const struct format_rules *edit,
                                                           struct slice text, struct slice params,
                                                           struct strbuf *out, struct err *e);

#endif
