/* The composition root: from a configuration to a running broker. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "config/config.h"
#include "server/service.h"
#include "server/worker.h"

/* Serves until SIGTERM or SIGINT has drained it; answers the exit code (sysexits.h). What went
 * wrong is in the log. `worker`: what a supervisor gives one of several; NULL: it is the only one,
 * listens on `given`, and tells the service manager how it is. All are borrowed for the call. */
int server_run(const struct config *cfg, const struct worker *worker,
               struct service_sockets *given);

#endif
