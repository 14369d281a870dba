/* Several workers: forks whole brokers that share the addresses and the store, and looks after
 * them. One worker is the plain server, in this process. */
#ifndef SERVER_SUPERVISOR_H
#define SERVER_SUPERVISOR_H

#include "config/config.h"

#include <stdbool.h>

/* Serves until SIGTERM or SIGINT has drained everything; answers the exit code (sysexits.h): 0, or
 * the worst of the workers'. Returns in the children as well, with theirs. `argv`: how the program
 * was called, NULL at the end; it is called like that again by a rolling restart. */
int supervisor_run(const struct config *cfg, char **argv);
/* The configuration cannot be loaded. True, after a second: this program has just taken the place
 * of another one, whose check found nothing wrong, and whose workers go on: try again. */
bool supervisor_waits(void);

/* Set in the environment of the `check` that a rolling restart asks of the program on disk: whether
 * it loads is of interest, not how well the policy is written. Not an option, because an older
 * program has to understand it. */
#define SUPERVISOR_CHECK_LOADING_ONLY "TIDEGATE_CHECK_LOADING_ONLY"

#endif
