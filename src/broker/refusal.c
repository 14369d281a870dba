#include "broker/refusal.h"

#include "base/logging.h"
#include "broker/broker_state.h"
#include "event/sse_frame.h"

#include <stdio.h>

enum { RETRY_AFTER_S = 5, TRANSIENT_RETRY_MS = 10000, FIELDS_MAX_BYTES = 4096, BODY_MAX = 16384 };

static void respond(struct stream *s, struct slice cors, int status, const char *field,
                    struct slice detail)
{
    struct strbuf body;
    struct strbuf fields;
    strbuf_init(&body, BODY_MAX);
    strbuf_init(&fields, FIELDS_MAX_BYTES);
    int rc = http_problem(&body, status, detail, slice_of(NULL, 0));
    rc = rc ? rc : strbuf_append(&fields, cors.p ? cors.p : "", cors.n);
    rc = rc ? rc : strbuf_append_str(&fields, field);
    if (rc) { /* the status alone still tells the client what to do */
        strbuf_reset(&body);
        strbuf_reset(&fields);
    }
    struct http_response r = {.status = status,
                              .content_type = HTTP_PROBLEM_TYPE,
                              .body = strbuf_slice(&body),
                              .fields = strbuf_slice(&fields)};
    (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
    strbuf_clear(&body);
    strbuf_clear(&fields);
}

void refuse_denied(struct broker *b, struct stream *s, struct slice cors, int status,
                   struct slice detail)
{
    b->metrics->refused_denied++;
    /* RFC 9110, 15.5.2: a 401 names a scheme */
    respond(s, cors, status, status == 401 ? "WWW-Authenticate: Bearer\r\n" : "", detail);
}

static void count_invalid(struct broker *b, const struct stream *s, int status, struct slice why)
{
    b->metrics->refused_invalid++;
    log_debug("broker", "refused request",
              LOG_F(log_uint("stream", s->id), log_int("status", status), log_slice("why", why)));
}

void refuse(struct broker *b, struct stream *s, struct slice cors, int status, struct slice detail)
{
    count_invalid(b, s, status, detail);
    respond(s, cors, status, "", detail);
}

void refuse_method(struct broker *b, struct stream *s, struct slice cors, const char *allow)
{
    char field[128];
    char detail[160];
    snprintf(field, sizeof field, "Allow: %s\r\n", allow);
    snprintf(detail, sizeof detail, "this path serves %s", allow);
    count_invalid(b, s, 405, slice_str(detail));
    respond(s, cors, 405, field, slice_str(detail));
}

static void refuse_stream(struct broker *b, struct stream *s, struct slice cors,
                          enum close_reason reason, const char *why)
{
    unsigned ms = reason == CLOSE_DRAINING ? b->opt.drain_retry_ms : TRANSIENT_RETRY_MS;
    struct sse_fields f = {.retry_ms = broker_jitter(b, ms), .comment = slice_str(why)};
    struct frame *frame = sse_frame(&f);
    struct strbuf fields;
    strbuf_init(&fields, FIELDS_MAX_BYTES);
    int rc = broker_stream_fields(&fields, cors);
    struct http_response head = {
        .status = 200, .content_type = b->opt.content_type, .fields = strbuf_slice(&fields)};
    rc = rc ? rc : stream_open(s, &head);
    if (rc == 0 && frame) {
        uv_buf_t buf = uv_buf_init(frame->bytes, frame->len);
        (void)stream_write(s, &buf, 1); /* what a full socket does not take is no loss here */
    }
    stream_close(s, reason);
    strbuf_clear(&fields);
    frame_unref(frame);
}

void refuse_transient(struct broker *b, struct stream *s, struct slice cors, bool sse,
                      enum close_reason reason, const char *why)
{
    b->metrics->refused_transient++;
    if (sse) {
        refuse_stream(b, s, cors, reason, why);
        return;
    }
    char field[64];
    snprintf(field, sizeof field, "Retry-After: %d\r\n", RETRY_AFTER_S);
    respond(s, cors, 503, field, slice_str(why));
}
