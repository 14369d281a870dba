/* `tidegate explain`: asks a running broker why a client got, or did not get, an event. */
#ifndef CLI_CLI_EXPLAIN_H
#define CLI_CLI_EXPLAIN_H

#include <stddef.h>

/* `words` are those after the command. Answers the exit code; what went wrong is on stderr. */
int cli_explain(char **words, size_t n);

extern const char cli_explain_details[], cli_explain_option_help[];

#endif
