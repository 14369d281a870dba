#include "bench/wire/bench_h2.h"

#include "base/container_of.h"
#include "base/require.h"

#include <nghttp2/nghttp2.h>

enum { OUT_MAX = 16 * 1024 * 1024, WINDOW_MAX = 0x7fffffff, FIELDS_MAX = 24 };

static struct bench_h2 *bench_h2_of(struct bench_conn *c)
{
    return container_of(c, struct bench_h2, conn);
}

/* ---------------------------------------------------------------- what nghttp2 reports */

static int bench_h2_on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                              size_t name_len, const uint8_t *value, size_t value_len,
                              uint8_t flags, void *user)
{
    struct bench_h2_stream *s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    struct slice n = slice_of((const char *)name, name_len);
    struct slice v = slice_of((const char *)value, value_len);
    (void)flags;
    (void)user;
    if (s && slice_is(n, ":status") && v.n == 3) { /* nghttp2 has checked the digits */
        s->status = (v.p[0] - '0') * 100 + (v.p[1] - '0') * 10 + (v.p[2] - '0');
    } else if (s && slice_is(n, "content-encoding")) {
        s->gzip = slice_is_nocase(v, "gzip");
    }
    return 0;
}

static void bench_h2_over(const struct bench_h2 *h, struct bench_h2_stream *s, const char *why)
{
    s->id = 0;
    h->ops->over(s, why);
}

static int bench_h2_on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct bench_h2 *h = user;
    struct bench_h2_stream *s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    if (s && s->id && frame->hd.type == NGHTTP2_HEADERS && s->status >= 200) {
        h->ops->head(s);
    }
    return 0;
}

static int bench_h2_on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data,
                            size_t len, void *user)
{
    struct bench_h2 *h = user;
    struct bench_h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);
    (void)flags;
    if (s && s->id) {
        h->ops->body(s, slice_of((const char *)data, len));
    }
    return 0;
}

static int bench_h2_on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user)
{
    struct bench_h2 *h = user;
    struct bench_h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);
    if (s && s->id) {
        bench_h2_over(h, s, code ? nghttp2_http2_strerror(code) : "the response is complete");
    }
    return 0;
}

/* ---------------------------------------------------------------- bytes */

static void bench_h2_end(struct bench_h2 *h, int rc)
{
    bench_conn_close(&h->conn);
    h->ops->ended(h, rc);
}

void bench_h2_flush(struct bench_h2 *h)
{
    const uint8_t *bytes;
    ssize_t n = 0;
    if (h->conn.state != BENCH_CONN_OPEN) {
        return;
    }
    while ((n = nghttp2_session_mem_send(h->session, &bytes)) > 0) {
        if (strbuf_append(&h->out, (const char *)bytes, (size_t)n)) {
            n = UV_ENOBUFS;
            break;
        }
    }
    int sent = n < 0 ? UV_ENOBUFS : 0;
    if (sent == 0 && h->out.len) {
        sent = bench_conn_write(&h->conn, strbuf_slice(&h->out));
    }
    if (sent < 0) {
        bench_h2_end(h, sent);
    } else {
        strbuf_consume(&h->out, (size_t)sent);
    }
}

static void bench_h2_on_bytes(struct bench_conn *c, struct slice bytes)
{
    struct bench_h2 *h = bench_h2_of(c);
    h->ops->reads(h, bytes.n);
    ssize_t rc = nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes.p, bytes.n);
    if (rc < 0) {
        bench_h2_end(h, UV_EPROTO);
        return;
    }
    bench_h2_flush(h);
    if (c->state == BENCH_CONN_OPEN && !nghttp2_session_want_read(h->session)) {
        bench_h2_end(h, UV_EOF);
    }
}

/* ---------------------------------------------------------------- connections */

static int bench_h2_begin(struct bench_h2 *h)
{
    nghttp2_session_callbacks *cb = NULL;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_MAX},
    };
    nghttp2_session_del(h->session);
    h->session = NULL;
    strbuf_clear(&h->out);
    strbuf_init(&h->out, OUT_MAX);
    if (nghttp2_session_callbacks_new(&cb)) {
        return UV_ENOMEM;
    }
    nghttp2_session_callbacks_set_on_header_callback(cb, bench_h2_on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, bench_h2_on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, bench_h2_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, bench_h2_on_stream_close);
    int rc = nghttp2_session_client_new(&h->session, cb, h);
    nghttp2_session_callbacks_del(cb);
    rc = rc ? rc
            : nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
                                      sizeof settings / sizeof *settings);
    rc = rc ? rc
            : nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, WINDOW_MAX);
    return rc ? UV_ENOMEM : 0;
}

static void bench_h2_on_opened(struct bench_conn *c)
{
    struct bench_h2 *h = bench_h2_of(c);
    int rc = bench_h2_begin(h);
    if (rc) {
        bench_h2_end(h, rc);
        return;
    }
    h->ops->opened(h);
    bench_h2_flush(h);
}

static void bench_h2_on_ended(struct bench_conn *c, int rc)
{
    struct bench_h2 *h = bench_h2_of(c);
    h->ops->ended(h, rc);
}

static const struct bench_conn_ops bench_h2_conn_ops = {bench_h2_on_opened, bench_h2_on_bytes,
                                                        bench_h2_on_ended, NULL};

void bench_h2_open(struct bench_h2 *h, struct bench_net *n, const struct bench_h2_ops *ops)
{
    h->ops = ops;
    h->conn.h2 = true;
    bench_conn_open(&h->conn, n, &bench_h2_conn_ops);
}

/* ---------------------------------------------------------------- requests */

static nghttp2_nv bench_h2_field(struct slice name, struct slice value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
                        .namelen = name.n,
                        .value = (uint8_t *)(uintptr_t)value.p,
                        .valuelen = value.n};
}

/* The next "Name: value\r\n"; false: none. */
static bool bench_h2_take_field(struct slice *lines, struct slice *name, struct slice *value)
{
    const char *end = lines->n ? memchr(lines->p, '\r', lines->n) : NULL;
    const char *colon = end ? memchr(lines->p, ':', (size_t)(end - lines->p)) : NULL;
    if (!colon) {
        return false;
    }
    *name = slice_of(lines->p, (size_t)(colon - lines->p));
    *value = slice_of(colon + 1, (size_t)(end - colon) - 1);
    while (value->n && *value->p == ' ') {
        *value = slice_of(value->p + 1, value->n - 1);
    }
    size_t used = (size_t)(end - lines->p) + 2;
    *lines = slice_of(lines->p + used, lines->n - used);
    return true;
}

int bench_h2_get(struct bench_h2 *h, struct bench_h2_stream *s, struct slice path,
                 struct slice fields)
{
    nghttp2_nv nv[FIELDS_MAX];
    struct slice name, value, scheme = slice_str(h->conn.net->tls ? "https" : "http");
    size_t n = 0;
    nv[n++] = bench_h2_field(slice_str(":method"), slice_str("GET"));
    nv[n++] = bench_h2_field(slice_str(":scheme"), scheme);
    nv[n++] = bench_h2_field(slice_str(":path"), path);
    while (bench_h2_take_field(&fields, &name, &value)) {
        if (n == FIELDS_MAX) {
            return UV_ENOBUFS;
        }
        bool host = slice_is_nocase(name, "host");
        nv[n++] = bench_h2_field(host ? slice_str(":authority") : name, value);
    }
    *s = (struct bench_h2_stream){.id = 0};
    int32_t id = nghttp2_submit_request(h->session, NULL, nv, n, NULL, s);
    if (id < 0) {
        return UV_ENOMEM;
    }
    s->id = id;
    return 0;
}

void bench_h2_reset(struct bench_h2 *h, struct bench_h2_stream *s)
{
    if (s->id && h->conn.state == BENCH_CONN_OPEN) {
        (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
    }
    s->id = 0;
}

void bench_h2_close(struct bench_h2 *h)
{
    bench_conn_close(&h->conn);
}

void bench_h2_clear(struct bench_h2 *h)
{
    nghttp2_session_del(h->session);
    h->session = NULL;
    strbuf_clear(&h->out);
    bench_conn_clear(&h->conn);
}
