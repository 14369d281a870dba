/* `tidegate publish`: publishes one event, or one for each line of standard input. */
#ifndef REMOTE_REMOTE_PUBLISH_H
#define REMOTE_REMOTE_PUBLISH_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int remote_publish(char **words, size_t n);

extern const char remote_publish_details[];
extern const struct option_row remote_publish_rows[];

#endif
