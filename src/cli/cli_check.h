/* `tidegate check`: words -> facts (policy_check.h) -> report (tools/tool_check.h). */
#ifndef CLI_CLI_CHECK_H
#define CLI_CLI_CHECK_H

#include "base/program/options.h"

#include <stdbool.h>
#include <stddef.h>

/* `words` are those after the command. Returns the exit code: 0 no error, 78 errors (with --strict:
 * also warnings), 69 the database of --db is down, 64 wrong usage, 66 the samples cannot be read. */
int cli_check(char **words, size_t n);

extern const char cli_check_details[];
extern const struct option_row cli_check_rows[];

#endif
