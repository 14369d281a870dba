/* Finds where the values of a JSON text begin and end, without building them: so that a value can
 * be kept as it was written, every digit and escape of it. It cuts, it does not judge: what it cuts
 * from a text that no parser has accepted goes to a parser (jansson) first. Pure. */
#ifndef BASE_JSON_TEXT_H
#define BASE_JSON_TEXT_H

#include "base/slice.h"

/* Skips white space (RFC 8259, section 2). */
void json_text_skip(struct slice *rest);
/* Skips white space and takes `c`; false, with nothing but white space taken, when it is not next.
 */
bool json_text_take(struct slice *rest, char c);
/* Skips white space and cuts one value off; false when none begins here, or it does not end. */
bool json_text_value(struct slice *rest, struct slice *value);
/* Writes `text` without the white space outside strings; `out` has room for text.n bytes. Returns
 * how many were written. */
size_t json_text_compact(char *out, struct slice text);

/* The two below take a string of a JSON text that json_syntax_ok() accepted, with its quotes.
 * Half a surrogate pair counts as U+FFFD. */

/* Decodes it into `out`, which has room for raw.n bytes; returns how many were written. */
size_t json_text_string(char *out, struct slice raw);
/* Does it spell `text`, however it is escaped? */
bool json_text_string_is(struct slice raw, struct slice text);
/* The value of the first member of that name in a text that was accepted; false, and *value as it
 * was: no object, or it has none. */
bool json_text_member(struct slice object, struct slice name, struct slice *value);

#endif
