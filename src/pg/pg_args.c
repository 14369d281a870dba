/* See pg_args.h. Formats: PostgreSQL's src/backend/utils/adt/{arrayfuncs,int8,bool}.c, *recv. */
#include "pg/pg_args.h"

#include "base/require.h"

#include <arpa/inet.h>
#include <limits.h>
#include <uv.h>

void pg_args_init(struct pg_args *a, size_t max)
{
    *a = (struct pg_args){0};
    strbuf_init(&a->data, max < INT_MAX ? max : INT_MAX);
}

void pg_args_clear(struct pg_args *a)
{
    strbuf_clear(&a->data);
    a->n = 0;
}

static void pg_args_put(struct pg_args *a, const void *p, size_t n)
{
    if (a->rc == 0 && n) {
        a->rc = strbuf_append(&a->data, p, n);
    }
}

static void put_u32(struct pg_args *a, uint32_t v)
{
    v = htonl(v);
    pg_args_put(a, &v, sizeof v);
}

static void put_int8(struct pg_args *a, int64_t value)
{
    put_u32(a, (uint32_t)((uint64_t)value >> 32));
    put_u32(a, (uint32_t)(uint64_t)value);
}

static void pg_args_begin(struct pg_args *a)
{
    REQUIRE(a->n < PG_ARGS_MAX);
    a->v[a->n].at = a->data.len;
}

static void pg_args_end(struct pg_args *a)
{
    a->v[a->n].len = (int)(a->data.len - a->v[a->n].at);
    a->n++;
}

void pg_args_int8(struct pg_args *a, int64_t value)
{
    pg_args_begin(a);
    put_int8(a, value);
    pg_args_end(a);
}

void pg_args_int4(struct pg_args *a, int32_t value)
{
    pg_args_begin(a);
    put_u32(a, (uint32_t)value);
    pg_args_end(a);
}

void pg_args_bool(struct pg_args *a, bool value)
{
    pg_args_begin(a);
    pg_args_put(a, value ? "\1" : "\0", 1);
    pg_args_end(a);
}

void pg_args_bytes(struct pg_args *a, const void *p, size_t n)
{
    pg_args_begin(a);
    pg_args_put(a, p, n);
    pg_args_end(a);
}

void pg_args_text(struct pg_args *a, struct slice s)
{
    pg_args_begin(a);
    if (s.n && memchr(s.p, '\0', s.n)) {
        a->rc = a->rc ? a->rc : UV_EINVAL;
    }
    pg_args_put(a, s.p, s.n);
    pg_args_put(a, "", 1); /* libpq wants an end, and does not send it */
    pg_args_end(a);
    a->v[a->n - 1].len = s.p ? (int)s.n : -1;
}

void pg_args_array_begin(struct pg_args *a, uint32_t oid, size_t n)
{
    pg_args_begin(a);
    put_u32(a, 1); /* dimensions */
    put_u32(a, 1); /* there may be NULLs */
    put_u32(a, oid);
    put_u32(a, (uint32_t)n);
    put_u32(a, 1); /* first index */
}

void pg_args_array_text(struct pg_args *a, struct slice s)
{
    put_u32(a, s.p ? (uint32_t)s.n : UINT32_MAX);
    pg_args_put(a, s.p, s.p ? s.n : 0);
}

void pg_args_array_int8(struct pg_args *a, int64_t value)
{
    put_u32(a, 8);
    put_int8(a, value);
}

void pg_args_array_end(struct pg_args *a)
{
    pg_args_end(a);
}
