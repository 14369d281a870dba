/* The commands that try policies out: `tidegate test`, `tidegate eval`. Words -> options -> tools/.
 */
#ifndef CLI_CLI_TOOLS_H
#define CLI_CLI_TOOLS_H

#include "base/program/options.h"
#include "base/strbuf.h"

#include <stddef.h>

/* `words` are those after the command; each answers the exit code, or CLI_HELP. */
int cli_test(char **words, size_t n);
int cli_eval(char **words, size_t n);

/* Names of the hooks that `eval` runs; NULL ends them. */
const char *const *cli_eval_hooks(void);

/* The whole of a file; NULL or "-": of standard input. At most what `text` holds. 0, or the exit
 * code after a message. */
int cli_read_input(const char *command, const char *path, struct strbuf *text);

extern const char cli_test_details[], cli_eval_details[];
extern const struct option_row cli_test_rows[], cli_eval_rows[];

#endif
