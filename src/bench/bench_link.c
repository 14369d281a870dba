#include "bench/bench_link.h"

#include "base/alloc.h"
#include "base/container_of.h"

#include <stdlib.h>

enum { PATH_MAX_BYTES = 8 * 1024 };

struct bench_link {
    struct bench_h2 h2;
    struct bench *b;
    bool waits; /* something is to be sent, perhaps */
};

static struct bench_link *bench_link_of(struct bench_h2 *h)
{
    return container_of(h, struct bench_link, h2);
}

static struct bench_link *bench_link_of_sub(const struct bench_sub *s)
{
    struct bench *b = s->b;
    return &b->links[(uint64_t)(s - b->subs) % b->link_count];
}

static struct bench_sub *bench_link_sub(struct bench_h2_stream *s)
{
    return container_of(s, struct bench_sub, stream);
}

/* ---------------------------------------------------------------- requests */

static void bench_link_ask(struct bench_link *l, struct bench_sub *s)
{
    struct bench *b = l->b;
    struct bench_place at = {s->topic, (uint32_t)(s - b->subs)};
    struct strbuf path;
    strbuf_init(&path, PATH_MAX_BYTES);
    int rc = bench_path_append(b, &path, b->o->subscribe_path, at);
    rc = rc ? rc : bench_h2_get(&l->h2, &s->stream, strbuf_slice(&path), strbuf_slice(&b->wanted));
    strbuf_clear(&path);
    if (rc) {
        bench_sub_over(s, uv_strerror(rc));
    }
    l->waits = true;
}

/* ---------------------------------------------------------------- what comes */

static void bench_link_on_opened(struct bench_h2 *h)
{
    struct bench_link *l = bench_link_of(h);
    struct bench *b = l->b;
    for (uint64_t i = (uint64_t)(l - b->links); i < b->sub_next; i += b->link_count) {
        if (!b->subs[i].ended && b->subs[i].stream.id == 0) {
            bench_link_ask(l, &b->subs[i]);
        }
    }
}

static void bench_link_on_reads(struct bench_h2 *h, size_t bytes)
{
    struct bench *b = bench_link_of(h)->b;
    b->counts.reads++;
    b->counts.bytes += bytes;
}

static void bench_link_on_head(struct bench_h2_stream *stream)
{
    (void)bench_sub_take_head(bench_link_sub(stream), stream->status, stream->gzip, uv_hrtime());
}

static void bench_link_on_body(struct bench_h2_stream *stream, struct slice bytes)
{
    (void)bench_sub_take_body(bench_link_sub(stream), bytes, uv_hrtime());
}

static void bench_link_on_over(struct bench_h2_stream *stream, const char *why)
{
    bench_sub_over(bench_link_sub(stream), why);
}

static void bench_link_on_ended(struct bench_h2 *h, int rc)
{
    const struct bench_link *l = bench_link_of(h);
    struct bench *b = l->b;
    const char *why = rc == UV_EOF               ? "the server closed the connection"
                      : rc == UV_EPROTONOSUPPORT ? "the server does not speak HTTP/2"
                                                 : uv_strerror(rc);
    for (uint64_t i = (uint64_t)(l - b->links); i < b->sub_next; i += b->link_count) {
        struct bench_sub *s = &b->subs[i];
        if (!s->ended) {
            s->stream.id = 0;
            bench_sub_over(s, why);
        }
    }
}

static const struct bench_h2_ops bench_link_ops = {
    bench_link_on_opened, bench_link_on_reads, bench_link_on_head,
    bench_link_on_body,   bench_link_on_over,  bench_link_on_ended,
};

/* ---------------------------------------------------------------- all of them */

void bench_links_init(struct bench *b)
{
    if (b->o->h2) {
        b->link_count = (b->o->connections + b->o->streams - 1) / b->o->streams;
        b->links = xcalloc(b->link_count, sizeof *b->links);
    }
    for (uint64_t i = 0; i < b->link_count; i++) {
        b->links[i].b = b;
    }
}

void bench_link_subscribe(struct bench_sub *s)
{
    struct bench_link *l = bench_link_of_sub(s);
    switch (l->h2.conn.state) {
    case BENCH_CONN_IDLE:
        bench_h2_open(&l->h2, &s->b->net, &bench_link_ops);
        break;
    case BENCH_CONN_OPENING: /* it will be asked for then */
        break;
    case BENCH_CONN_OPEN:
        bench_link_ask(l, s);
        break;
    case BENCH_CONN_CLOSING:
        bench_sub_over(s, "its connection has ended");
        break;
    }
}

void bench_link_leave(struct bench_sub *s)
{
    struct bench_link *l = bench_link_of_sub(s);
    bench_h2_reset(&l->h2, &s->stream);
    l->waits = true;
}

void bench_links_flush(struct bench *b)
{
    for (uint64_t i = 0; i < b->link_count; i++) {
        struct bench_link *l = &b->links[i];
        if (l->waits) {
            bench_h2_flush(&l->h2);
            l->waits = l->h2.out.len > 0;
        }
    }
}

void bench_links_close(struct bench *b)
{
    for (uint64_t i = 0; i < b->link_count; i++) {
        bench_h2_close(&b->links[i].h2);
    }
}

void bench_links_clear(struct bench *b)
{
    for (uint64_t i = 0; i < b->link_count; i++) {
        bench_h2_clear(&b->links[i].h2);
    }
    free(b->links);
}
