/* `tidegate check`: words -> what is found out (policy_check.h) -> what is said
 * (tools/tool_check.h).
 */
#ifndef CLI_CLI_CHECK_H
#define CLI_CLI_CHECK_H

#include <stdbool.h>
#include <stddef.h>

/* `words` are those after the command. The exit code: 0 all is well, 78 errors (with --strict:
 * warnings, too), 69 --db and the database is away, 64 wrong usage, 66 samples that cannot be
 * read. */
int cli_check(char **words, size_t n);

extern const char cli_check_details[], cli_check_option_help[];

#endif
