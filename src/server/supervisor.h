/* Forks complete brokers that share the addresses and the store, and restarts those that crash; also where
 * there is only one, so that it can be replaced without an outage. */
#ifndef SERVER_SUPERVISOR_H
#define SERVER_SUPERVISOR_H

#include "config/config.h"

#include <stdbool.h>

/* Serves until SIGTERM or SIGINT has drained all workers; returns the exit code (sysexits.h): 0, or
 * the worst of the workers'. Also returns in the children, with their exit codes. `argv`: the command
 * line, NULL at the end; a rolling restart executes it again. `single`: one worker, in this process. */
int supervisor_run(const struct config *cfg, char **argv, bool single);
/* Call it when the configuration cannot be loaded. True, after a second: this program has just
 * replaced another one in this process, whose check passed and whose workers still run; try again. */
bool supervisor_waits(void);

/* Set in the environment of the `check` of the program on disk, for a rolling restart: only whether
 * the configuration loads matters, not warnings about the policy. It is not an option, because an
 * older program has to accept it. */
#define SUPERVISOR_CHECK_LOADING_ONLY "TIDEGATE_CHECK_LOADING_ONLY"

#endif
