/* `tidegate status`: how a running broker is. */
#ifndef REMOTE_REMOTE_STATUS_H
#define REMOTE_REMOTE_STATUS_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int remote_status(char **words, size_t n);

extern const char remote_status_details[];
extern const struct option_row remote_status_rows[];

#endif
