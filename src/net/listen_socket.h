/* Listening sockets before there is an event loop: what a process binds for itself, and what a
 * supervisor holds for the workers it forks. listener.c makes listeners of them. */
#ifndef NET_LISTEN_SOCKET_H
#define NET_LISTEN_SOCKET_H

#include "base/err.h"
#include "net/address.h"

#include <stdbool.h>

enum { LISTEN_BACKLOG = 4096 };

struct listen_socket {
    struct address where; /* port 0 is resolved */
    int fd;               /* -1: none */
    bool inherited;       /* another process holds it as well: clients wait when we are gone */
};

/* Listens on `where`, alone. */
int listen_socket_open(const struct address *where, struct listen_socket *out, struct err *e);
/* Claims the port of `where`, a TCP address, for sockets that share it (SO_REUSEPORT): as long as
 * the claim is open they may be opened, and nobody of another user, or who does not share, comes in
 * between. Nothing listens yet. */
int listen_socket_claim(const struct address *where, struct listen_socket *out, struct err *e);
/* One of several that listen on the address of a claim; the kernel spreads clients over them. */
int listen_socket_share(const struct listen_socket *claim, struct listen_socket *out,
                        struct err *e);
/* `unlink_path`: a Unix socket's file goes too, if the socket is not inherited. */
void listen_socket_close(struct listen_socket *s, bool unlink_path);
/* Sets `e`: which address, what is wrong, what to do about it. Returns `rc`. */
int listen_socket_fail(struct err *e, int rc, const struct address *where);

#endif
