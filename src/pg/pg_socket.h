/* What libpq does not tell of its socket. */
#ifndef PG_PG_SOCKET_H
#define PG_PG_SOCKET_H

#include <stdint.h>

/* Bytes that were read from it so far; 0 where that is not known: a Unix socket, none. */
uint64_t pg_socket_consumed(int fd);

#endif
