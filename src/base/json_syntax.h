/* JSON as text, without a tree: what is passed through must not lose a digit. Pure, fuzzed against
 * jansson. */
#ifndef BASE_JSON_SYNTAX_H
#define BASE_JSON_SYNTAX_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>

enum { JSON_SYNTAX_DEPTH_MAX = 512 };

/* One JSON value (RFC 8259) with optional white space around it, nested at most
 * JSON_SYNTAX_DEPTH_MAX deep? */
bool json_syntax_ok(struct slice text);
/* Appends `text` as a JSON string, quotes included; what is not UTF-8 becomes U+FFFD. On failure
 * (UV_ENOBUFS, UV_ENOMEM) nothing is appended. */
__attribute__((warn_unused_result)) int json_syntax_quote(struct strbuf *out, struct slice text);

#endif
