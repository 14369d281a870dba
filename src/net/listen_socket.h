/* Listening sockets before there is an event loop: those that a process binds for itself, and those
 * that a supervisor holds for its workers. listener.c accepts on them. */
#ifndef NET_LISTEN_SOCKET_H
#define NET_LISTEN_SOCKET_H

#include "base/err.h"
#include "net/address.h"

#include <stdbool.h>

enum { LISTEN_BACKLOG = 4096 };

struct listen_socket {
    struct address where; /* port 0 is resolved */
    int fd;               /* -1: none */
    bool inherited;       /* another process holds it as well: clients wait when this one ends */
};

/* Listens on `where`, alone. */
int listen_socket_open(const struct address *where, struct listen_socket *out, struct err *e);
/* Claims the port of `where`, a TCP address, for sockets that share it (SO_REUSEPORT). While the claim
 * is open, listen_socket_share() can open them, and no socket of another user, or without
 * SO_REUSEPORT, can bind the port. The claim itself does not listen. */
int listen_socket_claim(const struct address *where, struct listen_socket *out, struct err *e);
/* Opens one of several sockets that listen on the claimed address; the kernel spreads clients over
 * them. */
int listen_socket_share(const struct listen_socket *claim, struct listen_socket *out,
                        struct err *e);
/* `unlink_path`: also removes the file of a Unix socket, if the socket is not inherited. */
void listen_socket_close(struct listen_socket *s, bool unlink_path);
/* Sets `e`: the address, what is wrong, what to do about it. Returns `rc`. */
int listen_socket_fail(struct err *e, int rc, const struct address *where);

#endif
