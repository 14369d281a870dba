/* Text of strangers on a terminal: events, policies, answers of servers. */
#ifndef CLI_CLI_TEXT_H
#define CLI_CLI_TEXT_H

#include "base/slice.h"

#include <jansson.h>
#include <stdio.h>

/* Each control character (C0 but the tab, DEL, C1) becomes a '?', so that no text can drive the
 * terminal. */
void cli_put(FILE *out, struct slice text);
/* The text member of that name; "" where there is none. Borrowed from `o`, which may be NULL. */
const char *cli_text_of(const json_t *o, const char *name);
/* The integer of that name; 0 where there is none. */
long long cli_count_of(const json_t *o, const char *name);
/* What a noun ends with that stands behind that number: "1 stream", "2 streams". */
const char *cli_plural(long long n);

#endif
