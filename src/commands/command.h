/* One command of the program. */
#ifndef COMMANDS_COMMAND_H
#define COMMANDS_COMMAND_H

#include "base/program/options.h"

#include <stddef.h>

struct command {
    const char *name, *arguments, *summary;
    const char *details;           /* of `help NAME`; may be NULL */
    const struct option_row *rows; /* may be NULL */
    /* one of the two; the second reads its options itself and answers an exit code, or CLI_HELP */
    int (*run)(const struct command *c, char **words, size_t n);
    int (*run_words)(char **words, size_t n);
};

#endif
