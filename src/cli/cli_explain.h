/* `tidegate explain`: asks a running broker why a client got, or did not get, an event. */
#ifndef CLI_CLI_EXPLAIN_H
#define CLI_CLI_EXPLAIN_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP; what went wrong is on stderr. */
int cli_explain(char **words, size_t n);

extern const char cli_explain_details[];
extern const struct option_row cli_explain_rows[];

#endif
