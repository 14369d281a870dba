/* `tidegate subscribe`: prints the events of a stream and stays connected. */
#ifndef REMOTE_REMOTE_SUBSCRIBE_H
#define REMOTE_REMOTE_SUBSCRIBE_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int remote_subscribe(char **words, size_t n);

extern const char remote_subscribe_details[];
extern const struct option_row remote_subscribe_rows[];

#endif
