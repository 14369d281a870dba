/* The process that serves the admin address of several workers. It is a child of the supervisor like
 * the workers, so that a defect here disconnects no client. */
#ifndef SERVER_ADMIN_PROCESS_H
#define SERVER_ADMIN_PROCESS_H

#include "config/config.h"
#include "server/worker.h"

/* Where a worker's own admin service listens: a Unix socket without a name in any directory,
 * reached through a descriptor that the children inherit. */
struct admin_backend {
    struct listen_socket socket;
    int path_fd; /* -1: none */
    struct address reach;
};

int admin_backend_open(struct admin_backend *b, struct err *e);
/* Takes over the descriptors of the program that this process ran before. */
void admin_backend_take(struct admin_backend *b, int fd, int path_fd);
void admin_backend_close(struct admin_backend *b);

struct admin_process {
    struct listen_socket *listen;         /* owned from now on */
    const struct admin_backend *backends; /* of each worker */
    const struct workers_shared *shared;
    unsigned count;
    int drain_signal, restart_signal; /* to the supervisor */
};

/* Serves until SIGTERM; returns the exit code. */
int admin_process_run(const struct config *cfg, const struct admin_process *p);

#endif
