/* The composition root: from a configuration to a running broker. */
#ifndef SERVER_H
#define SERVER_H

#include "config.h"

/* Serves until SIGTERM or SIGINT has drained it; answers the exit code (sysexits.h). What went
 * wrong is in the log. `cfg` is borrowed for the call. */
int server_run(const struct config *cfg);

#endif
