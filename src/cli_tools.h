/* The commands that try policies out: `tidegate test`, `tidegate eval`. Words -> options -> tools/.
 */
#ifndef CLI_TOOLS_H
#define CLI_TOOLS_H

#include <stddef.h>

/* `words` are those after the command; each answers the exit code. */
int cli_test(char **words, size_t n);
int cli_eval(char **words, size_t n);

extern const char cli_test_details[], cli_test_option_help[];
extern const char cli_eval_details[], cli_eval_option_help[];

#endif
