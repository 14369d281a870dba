#include "bench/wire/bench_gzip.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <uv.h>
#include <zlib.h>

enum { GZIP_ONLY = 16 + MAX_WBITS };

int bench_gzip_begin(struct bench_gzip *g)
{
    bench_gzip_clear(g);
    g->z = xcalloc(1, sizeof *g->z);
    if (inflateInit2(g->z, GZIP_ONLY) != Z_OK) {
        free(g->z);
        g->z = NULL;
        return UV_ENOMEM;
    }
    return 0;
}

bool bench_gzip_next(struct bench_gzip *g, struct slice *in, char *out, size_t size, size_t *n)
{
    z_stream *z = g->z;
    z->next_in = (unsigned char *)(uintptr_t)in->p;
    z->avail_in = (unsigned)in->n;
    z->next_out = (unsigned char *)out;
    z->avail_out = (unsigned)size;
    int rc = inflate(z, Z_SYNC_FLUSH);
    *in = slice_of((const char *)z->next_in, z->avail_in);
    *n = size - z->avail_out;
    /* Z_BUF_ERROR: there was neither input nor output left over, which is no error here */
    return rc == Z_OK || rc == Z_BUF_ERROR || (rc == Z_STREAM_END && in->n == 0);
}

void bench_gzip_clear(struct bench_gzip *g)
{
    if (g->z) {
        (void)inflateEnd(g->z); /* it fails for a state that is none */
        free(g->z);
        g->z = NULL;
    }
}
