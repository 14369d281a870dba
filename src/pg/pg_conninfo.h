/* A PostgreSQL connection string, taken apart: which servers there are, and the parameters that go
 * to libpq as they are. May hold a password: no text of this module, and no message, shows it. */
#ifndef PG_PG_CONNINFO_H
#define PG_PG_CONNINFO_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { PG_CONNINFO_HOSTS_MAX = 16, PG_CONNINFO_PARAMS_MAX = 64 };

/* One of `host=a,b`. All owned. */
struct pg_host {
    char *host;     /* a name, an address, or the directory of a socket; never NULL */
    char *hostaddr; /* as given, or `host` where that is an address; NULL: `host` is to be looked up
                       (or a socket) */
    char *port;
    bool is_socket;
};

struct pg_conninfo {
    struct pg_host hosts[PG_CONNINFO_HOSTS_MAX];
    size_t host_count;
    char *keys[PG_CONNINFO_PARAMS_MAX]; /* owned; the rest, with the defaults of the broker */
    char *values[PG_CONNINFO_PARAMS_MAX];
    size_t param_count;
    char shown[256]; /* servers, database and user: for logs */
};

/* Is it one at all? What makes `--store` a conninfo rather than a directory. */
bool pg_conninfo_is(const char *text);
/* 0, or UV_EINVAL with a reason that shows nothing of `text`. */
int pg_conninfo_parse(struct pg_conninfo *out, const char *text, struct err *e);
/* The same for connections that only read: a standby will do, unless `text` says otherwise. */
int pg_conninfo_parse_reader(struct pg_conninfo *out, const char *text, struct err *e);
void pg_conninfo_clear(struct pg_conninfo *c);

#endif
