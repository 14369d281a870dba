/* `tidegate top`: what a running broker does, once a second. */
#ifndef REMOTE_REMOTE_TOP_H
#define REMOTE_REMOTE_TOP_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int remote_top(char **words, size_t n);

extern const char remote_top_details[];
extern const struct option_row remote_top_rows[];

#endif
