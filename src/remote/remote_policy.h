/* `tidegate reload` and `tidegate rollback`: another policy for a running broker. */
#ifndef REMOTE_REMOTE_POLICY_H
#define REMOTE_REMOTE_POLICY_H

#include "base/program/options.h"

#include <stddef.h>

/* `words` are those after the command. Answers the exit code, or CLI_HELP. */
int remote_reload(char **words, size_t n);
int remote_rollback(char **words, size_t n);

extern const char remote_reload_details[];
extern const struct option_row remote_reload_rows[];
extern const char remote_rollback_details[];
extern const struct option_row remote_rollback_rows[];

#endif
