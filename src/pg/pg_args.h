/* Parameters of one statement, in PostgreSQL's binary format: nothing to escape, nothing to parse.
 * Errors are kept: build all, then look at `rc` once. */
#ifndef PG_PG_ARGS_H
#define PG_PG_ARGS_H

#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>

enum { PG_ARGS_MAX = 32, PG_OID_INT8 = 20, PG_OID_TEXT = 25 };

struct pg_args {
    struct strbuf data; /* owned */
    int rc;             /* 0, or what strbuf_append() said first */
    int n;
    struct {
        size_t at;
        int len; /* -1: NULL */
    } v[PG_ARGS_MAX];
};

/* `max`: most bytes of all parameters together. */
void pg_args_init(struct pg_args *a, size_t max);
void pg_args_clear(struct pg_args *a);
void pg_args_int8(struct pg_args *a, int64_t value);
void pg_args_int4(struct pg_args *a, int32_t value);
void pg_args_bool(struct pg_args *a, bool value);
void pg_args_bytes(struct pg_args *a, const void *p, size_t n); /* text, uuid */
/* For statements whose arguments are text. Absent: NULL. Refuses NUL bytes, which end text. */
void pg_args_text(struct pg_args *a, struct slice s);
/* An array of n items of type `oid`: begin, n items, end. */
void pg_args_array_begin(struct pg_args *a, uint32_t oid, size_t n);
void pg_args_array_text(struct pg_args *a, struct slice s); /* absent: NULL */
void pg_args_array_int8(struct pg_args *a, int64_t value);
void pg_args_array_end(struct pg_args *a);

#endif
