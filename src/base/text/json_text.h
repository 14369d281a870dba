/* JSON as text, without a tree, so that data that is passed through keeps every digit and escape.
 * Pure, fuzzed against jansson.
 *
 * json_text_ok() validates. The others find where values begin and end and do not validate: call
 * json_text_ok() or a parser (jansson) first. */
#ifndef BASE_TEXT_JSON_TEXT_H
#define BASE_TEXT_JSON_TEXT_H

#include "base/slice.h"
#include "base/strbuf.h"

#include <stdbool.h>

enum { JSON_TEXT_DEPTH_MAX = 512 };

/* Is `text` one JSON value (RFC 8259), with optional white space around it, nested at most
 * JSON_TEXT_DEPTH_MAX deep? */
bool json_text_ok(struct slice text);
/* Appends `text` as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. On failure
 * (UV_ENOBUFS, UV_ENOMEM) nothing is appended. */
__attribute__((warn_unused_result)) int json_text_quote(struct strbuf *out, struct slice text);

/* Skips white space (RFC 8259, section 2). */
void json_text_skip(struct slice *rest);
/* Skips white space and takes `c`; false, with nothing but white space taken, when it is not next.
 */
bool json_text_take(struct slice *rest, char c);
/* Skips white space and cuts one value off; false when none begins here, or it does not end. */
bool json_text_value(struct slice *rest, struct slice *value);
/* As json_text_value(), but checks the value as json_text_ok() does, in the same pass; of a
 * string half a surrogate pair is a fault, too. NULL, or a constant text saying what is wrong at the new beginning of
 * *rest. */
const char *json_text_checked_value(struct slice *rest, struct slice *value);
/* Writes `text` without the white space outside strings; `out` has room for text.n bytes, or is NULL.
 * Returns how many it has. */
size_t json_text_compact(char *out, struct slice text);

/* The two below take a string of a JSON text that json_text_ok() accepted, with its quotes.
 * Half a surrogate pair counts as U+FFFD. */

/* Decodes it into `out`, which has room for raw.n bytes, or is NULL; returns how many it has. */
size_t json_text_string(char *out, struct slice raw);
/* Does it spell `text`, however it is escaped? */
bool json_text_string_is(struct slice raw, struct slice text);
/* The value of the first member of that name in a validated text. False, with *value unchanged: not an
 * object, or there is no such member. */
bool json_text_member(struct slice object, struct slice name, struct slice *value);

#endif
