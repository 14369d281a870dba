/* `tidegate connections` and `tidegate kick`: the open streams, and the end of some of them. */
#ifndef REMOTE_REMOTE_CONNECTIONS_H
#define REMOTE_REMOTE_CONNECTIONS_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int remote_connections(char **words, size_t n);
int remote_kick(char **words, size_t n);

extern const char remote_connections_details[];
extern const struct option_row remote_connections_rows[];
extern const char remote_kick_details[];
extern const struct option_row remote_kick_rows[];

#endif
