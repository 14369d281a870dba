/* URI Templates (RFC 6570, all levels but for prefixes such as {x:3}), read backwards: may this text have been made of
 * that template? A variable may be anything that its operator writes, also nothing. Pure, fuzzed, no memory but the
 * stack; the time is at most (expressions + 1) * bytes of the text. */
#ifndef BASE_TEXT_URI_TEMPLATE_H
#define BASE_TEXT_URI_TEMPLATE_H

#include "base/slice.h"

#include <stdbool.h>

enum {
    URI_TEMPLATE_MAX_BYTES = 1024,
    URI_TEMPLATE_TEXT_MAX_BYTES = 1024, /* longer texts were made of no template */
    URI_TEMPLATE_EXPRESSIONS_MAX = 32,
    URI_TEMPLATE_VARIABLES_MAX = 100, /* in one expression */
};

/* Is it a template with an expression in braces at least? */
bool uri_template_ok(struct slice template);
/* True also where both are the same, whatever they are. Else false where it is no template. */
bool uri_template_fits(struct slice template, struct slice text);

#endif
