/* `tidegate drain`: ends a running broker as SIGTERM does. */
#ifndef REMOTE_REMOTE_DRAIN_H
#define REMOTE_REMOTE_DRAIN_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int remote_drain(char **words, size_t n);

extern const char remote_drain_details[];
extern const struct option_row remote_drain_rows[];

#endif
