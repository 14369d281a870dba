/* HTTP/2 on a real connection: a client that sends any frames, and owners of streams that answer,
 * write, queue and close in any order. The input is a list of steps. Whatever they are: an owner
 * hears of the end of each stream it has not let go of, once; in the end nothing is left. */
#include "base/container_of.h"
#include "net/h2/h2_conn.h"
#include "net/http/conn.h"
#include "net/http/http_server.h"
#include "net/http/listener.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OWNERS = 64, PAYLOAD_MAX = 20000, TURNS = 3 };

struct owner {
    struct stream *s; /* NULL: none */
    bool open, blocked;
    bool head; /* its body has not been taken */
};

struct input {
    const uint8_t *p, *end;
};

struct bench {
    struct loop *loop;
    struct net_metrics metrics;
    struct http_server server;
    struct owner owners[OWNERS];
    struct input in;
    int client; /* -1: closed */
};

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static uint8_t byte_of(struct input *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

/* ---------------------------------------------------------------- owners */

static void on_writable(struct stream *s)
{
    struct owner *o = s->owner;
    check(o->s == s && o->blocked, "writable, but nothing was queued");
    o->blocked = false;
}

static void on_closed(struct stream *s, enum close_reason why)
{
    struct owner *o = s->owner;
    (void)why;
    check(o->s == s, "closed, but it was not owned");
    *o = (struct owner){0};
}

static const struct stream_events events = {.writable = on_writable, .closed = on_closed};

static void let_go(struct owner *o, enum close_reason why)
{
    struct stream *s = o->s;
    *o = (struct owner){0};
    stream_close(s, why);
}

static void write_some(struct owner *o, size_t n)
{
    static char zeros[PAYLOAD_MAX * 4];
    uv_buf_t bufs[] = {uv_buf_init(zeros, (unsigned)(n / 3)),
                       uv_buf_init(zeros, (unsigned)(n - n / 3))};
    const struct stream_bytes bytes = {.bufs = bufs, .count = 2, .total = n};
    ssize_t taken = stream_write(o->s, &bytes);
    check(taken <= (ssize_t)n, "more was taken than there was");
    if (taken < 0) {
        let_go(o, CLOSE_CLIENT_ERROR);
    } else if ((size_t)taken < n) {
        struct frame *f = frame_copy(slice_of(zeros, n - (size_t)taken));
        check(f != NULL, "no memory");
        o->blocked = true;
        if (stream_queue(o->s, f, 0)) {
            let_go(o, CLOSE_CLIENT_ERROR);
        }
        frame_unref(f);
    }
}

static void answer(struct owner *o, size_t n)
{
    static char zeros[PAYLOAD_MAX];
    struct http_response r = {.status = n % 2 ? 200 : 204,
                              .content_type = "text/plain",
                              .body = slice_of(zeros, n),
                              .fields = slice_str("X-Test: y\r\n")};
    struct stream *s = o->s;
    *o = (struct owner){0};
    (void)stream_respond(s, &r); /* gone either way */
}

static void act(struct bench *b, struct owner *o)
{
    struct http_response head = {.status = 200, .content_type = "text/event-stream"};
    uint8_t what = byte_of(&b->in);
    size_t n = (size_t)byte_of(&b->in) << (what >> 4);
    if (!o->s) {
        return;
    }
    switch (o->head && (what % 5 == 1 || what % 5 == 2) ? 5 : what % 5) {
    case 5:
        o->head = false;
        stream_take_body(o->s);
        break;
    case 0:
        if (!o->open) {
            answer(o, n % PAYLOAD_MAX);
        }
        break;
    case 1:
        if (!o->open) {
            o->open = true;
            if (stream_open(o->s, &head)) {
                let_go(o, CLOSE_CLIENT_CLOSED);
            }
        }
        break;
    case 2:
        if (o->open && !o->blocked) {
            write_some(o, n % (PAYLOAD_MAX * 4));
        }
        break;
    case 3:
        let_go(o, n % 2 ? CLOSE_DRAINING : CLOSE_LAGGED);
        break;
    default:
        check(stream_set_fields(o->s, slice_str("Vary: Origin\r\n")) == 0, "no memory");
        break;
    }
}

/* Who owns it from now on; NULL: nobody could. */
static struct owner *own(struct bench *b, struct stream *s)
{
    struct owner *o = b->owners;
    while (o < b->owners + OWNERS && o->s) {
        o++;
    }
    if (o == b->owners + OWNERS) {
        stream_close(s, CLOSE_TRANSIENT);
        return NULL;
    }
    *o = (struct owner){.s = s};
    stream_set_owner(s, &events, o);
    return o;
}

static void on_head(void *ctx, struct stream *s, struct http_request *rq,
                    const struct peer_address *client)
{
    struct bench *b = ctx;
    (void)client;
    check(rq->path.n > 0 && rq->host.n > 0, "half a head");
    struct owner *o = own(b, s);
    if (o) {
        o->head = true;
        act(b, o);
    }
}

static void on_request(void *ctx, struct stream *s, struct http_request *rq,
                       const struct peer_address *client)
{
    struct bench *b = ctx;
    (void)client;
    check(rq->state == HTTP_COMPLETE && rq->path.n > 0 && rq->host.n > 0, "half a request");
    struct owner *o = s->events ? s->owner : own(b, s);
    if (o) {
        check(!o->head, "the body was not wanted");
        act(b, o);
    }
}

/* ---------------------------------------------------------------- the client */

static void turn(struct bench *b)
{
    for (int i = 0; i < TURNS; i++) {
        uv_run(loop_uv(b->loop), UV_RUN_NOWAIT);
    }
}

static void send_bytes(const struct bench *b, const void *bytes, size_t n)
{
    if (b->client >= 0) {
        (void)!send(b->client, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT); /* full: as good as lost */
    }
}

static void send_frame(struct bench *b, size_t len)
{
    unsigned char frame[9 + PAYLOAD_MAX] = {0};
    unsigned char type = byte_of(&b->in), flags = byte_of(&b->in), id = byte_of(&b->in);
    size_t left = (size_t)(b->in.end - b->in.p);
    size_t given = len < left ? len : left;
    frame[0] = (unsigned char)(len >> 16);
    frame[1] = (unsigned char)(len >> 8);
    frame[2] = (unsigned char)len;
    frame[3] = type % 12;
    frame[4] = flags;
    frame[8] = id;
    memcpy(frame + 9, b->in.p, given);
    b->in.p += given;
    send_bytes(b, frame, 9 + len);
}

static void step(struct bench *b)
{
    static char sink[65536];
    uint8_t what = byte_of(&b->in);
    size_t n;
    switch (what % 8) {
    case 0:
    case 1:
    case 2:
        n = byte_of(&b->in);
        send_frame(b, what & 0x80 ? n << 6 : n);
        break;
    case 3: /* bytes as they are */
        n = (size_t)(b->in.end - b->in.p) < what ? (size_t)(b->in.end - b->in.p) : what;
        send_bytes(b, b->in.p, n);
        b->in.p += n;
        break;
    case 4:
        act(b, &b->owners[what / 8 % 4]);
        break;
    case 5:
        if (b->client >= 0) {
            (void)!recv(b->client, sink, sizeof sink, MSG_DONTWAIT);
        }
        break;
    case 6:
        if (what == 0xfe && b->client >= 0) {
            close(b->client);
            b->client = -1;
        } else if (what == 0xf6) {
            http_server_drain(&b->server);
        }
        break;
    default:
        turn(b);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    struct http_server_options opt = {
        .name = "fuzz",
        .limits = {.target_bytes = 1000, .head_bytes = 4000, .headers = 20, .body_bytes = 30000},
        .head_timeout_ms = 10000,
        .body_timeout_ms = 10000,
        .idle_timeout_ms = 10000,
        .dead_peer_ms = 10000,
        .pipeline = 4,
        .max_connections = 20,
        .bodies_bytes = 50000,
        .h2 = &h2_protocol,
        .h2_streams = 32};
    int pair[2], small = 4096;
    struct bench b = {.loop = loop_new(), .in = {data, data + size}};
    if (!b.loop || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)) {
        return 0;
    }
    (void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    b.client = pair[0];
    const struct http_handlers handlers = {.head = on_head, .request = on_request, .ctx = &b};
    http_server_init(&b.server, b.loop, &opt, &handlers, &b.metrics);
    check(listener_adopt(&b.server, pair[1]) == 0, "no connection");
    send_bytes(&b, preface, sizeof preface - 1);
    turn(&b);
    while (b.in.p < b.in.end) {
        step(&b);
    }
    turn(&b);
    http_server_close_all(&b.server, CLOSE_DRAINING);
    for (int i = 0; i < OWNERS; i++) {
        check(!b.owners[i].s, "an owner was not told");
    }
    turn(&b);
    check(b.metrics.h2_streams == 0 && b.metrics.h2_connections == 0 &&
              b.server.h2_stream_count == 0 && b.server.conn_count == 0,
          "something is left");
    if (b.client >= 0) {
        close(b.client);
    }
    http_server_clear(&b.server);
    check(loop_free(b.loop) == 0, "a handle is left");
    return 0;
}
