/* `tidegate explain`: asks a running broker why a client got, or did not get, an event. */
#ifndef REMOTE_REMOTE_EXPLAIN_H
#define REMOTE_REMOTE_EXPLAIN_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP; what went wrong is on stderr. */
int remote_explain(char **words, size_t n);

extern const char remote_explain_details[];
extern const struct option_row remote_explain_rows[];

#endif
