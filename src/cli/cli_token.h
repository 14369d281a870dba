/* `tidegate token`: signs a token with a key of the configuration, or says why one is not accepted. */
#ifndef CLI_CLI_TOKEN_H
#define CLI_CLI_TOKEN_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int cli_token(char **words, size_t n);

extern const char cli_token_details[];
extern const struct option_row cli_token_rows[];

#endif
