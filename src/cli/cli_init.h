/* `tidegate init`: writes a configuration, a policy with its test, and a secret, to begin with. */
#ifndef CLI_CLI_INIT_H
#define CLI_CLI_INIT_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int cli_init(char **words, size_t n);

extern const char cli_init_details[];
extern const struct option_row cli_init_rows[];

#endif
