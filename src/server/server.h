/* The composition root: from a configuration to a running broker. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "config/config.h"
#include "server/systemd.h"
#include "server/worker.h"

/* Serves until SIGTERM or SIGINT has drained it; returns the exit code (sysexits.h). The log says
 * what went wrong. `worker`: from the supervisor, for one of several workers; NULL: the only one, which
 * listens on `given` and notifies the service manager. All are borrowed for the call. */
int server_run(const struct config *cfg, const struct worker *worker,
               struct systemd_sockets *given);

#endif
