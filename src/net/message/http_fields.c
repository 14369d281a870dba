/* Byte classes and field lines (RFC 9112 5). One table look-up per byte; a wrong byte is refused
 * where it stands, so that a bad client is answered without waiting for the end of its head. */
#include "net/message/http_fields.h"

#include <stdlib.h>

enum { FIRST_HEADERS = 16 };

/* V: white space, obs-text; U: visible, no token; H: '#', the token that no target holds. */
/* clang-format off */
#define V BYTE_VALUE
#define U (BYTE_VALUE | BYTE_TARGET)
#define H (BYTE_VALUE | BYTE_TOKEN)
#define T (BYTE_VALUE | BYTE_TARGET | BYTE_TOKEN)
#define V16 V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V
const unsigned char http_byte_class[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, V, 0, 0, 0, 0, 0, 0, /* HTAB */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    V, T, U, H, T, T, T, T, U, U, T, T, U, T, T, U, /* SP ! " # $ % & ' ( ) * + , - . / */
    T, T, T, T, T, T, T, T, T, T, U, U, U, U, U, U, /* 0 to 9 : ; < = > ? */
    U, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, /* @ A to O */
    T, T, T, T, T, T, T, T, T, T, T, U, U, U, T, T, /* P to Z [ \ ] ^ _ */
    T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, /* ` a to o */
    T, T, T, T, T, T, T, T, T, T, T, U, T, U, T, 0, /* p to z { | } ~ DEL */
    V16, V16, V16, V16, V16, V16, V16, V16,
};
#undef V
#undef U
#undef H
#undef T
#undef V16
/* clang-format on */

void http_fail(struct http_request *rq, int status, const char *text)
{
    if (rq->state != HTTP_FAILED) {
        rq->state = HTTP_FAILED;
        rq->fail = (struct http_failure){.status = status, .text = text};
    }
}

bool http_scan(struct http_input *in, unsigned byte_class)
{
    const char *p = in->p;
    while (p < in->end && http_byte_is(*p, byte_class)) {
        p++;
    }
    in->p = p;
    return p < in->end;
}

void http_refuse_byte(struct http_request *rq, const struct http_input *in, const char *text)
{
    http_fail(rq, 400, *in->p == '\n' ? "LF without CR before it: lines end with CRLF" : text);
}

void http_expect_lf(struct http_request *rq, struct http_input *in, unsigned next)
{
    if (*in->p != '\n') {
        http_fail(rq, 400, "CR without LF behind it: lines end with CRLF");
        return;
    }
    in->p++;
    rq->step = next;
}

bool http_fields_add_header(struct http_request *rq)
{
    if (rq->header_spans == rq->limits->headers) {
        http_fail(rq, 431, "too many header fields");
        return false;
    }
    if (rq->header_spans == rq->header_cap) {
        size_t cap = rq->header_cap ? rq->header_cap * 2 : FIRST_HEADERS;
        struct http_header *grown = realloc(rq->headers, cap * sizeof *grown);
        if (!grown) {
            http_fail(rq, 503, "memory is short");
            return false;
        }
        rq->headers = grown;
        rq->header_cap = cap;
    }
    rq->headers[rq->header_spans++] = (struct http_header){.name = {NULL, 0}};
    return true;
}

static void step_field(struct http_request *rq, struct http_input *in)
{
    if (*in->p == '\r') {
        in->p++;
        rq->step = HTTP_STEP_END_LF;
    } else if (*in->p == ' ' || *in->p == '\t') {
        /* obs-fold (RFC 9112 5.2), or white space behind the request line (2.2) */
        http_fail(rq, 400, "a field line starts with white space: folded lines are not accepted");
    } else if (!http_byte_is(*in->p, BYTE_TOKEN)) {
        http_refuse_byte(rq, in, "a field name must be a token");
    } else if (rq->state == HTTP_BODY || http_fields_add_header(rq)) {
        rq->mark = http_input_offset(in);
        rq->step = HTTP_STEP_NAME;
    }
}

static void step_name(struct http_request *rq, struct http_input *in)
{
    if (!http_scan(in, BYTE_TOKEN)) {
        return;
    }
    if (*in->p != ':') {
        /* white space before the colon has been used to hide fields (RFC 9112 5.1) */
        bool space = *in->p == ' ' || *in->p == '\t';
        http_refuse_byte(rq, in,
                         space            ? "white space before the colon of a field"
                         : *in->p == '\r' ? "a field line without a colon"
                                          : "a field name must be a token");
        return;
    }
    size_t at = http_input_offset(in);
    if (rq->state == HTTP_HEAD) {
        rq->headers[rq->header_spans - 1].name = http_span(rq->mark, at);
    }
    in->p++;
    rq->mark = at + 1;
    rq->step = HTTP_STEP_VALUE;
}

static void step_value(struct http_request *rq, struct http_input *in)
{
    if (!http_scan(in, BYTE_VALUE)) {
        return;
    }
    if (*in->p != '\r') {
        http_refuse_byte(rq, in, "a control character in a field value");
        return;
    }
    if (rq->state == HTTP_HEAD) {
        rq->headers[rq->header_spans - 1].value = http_span(rq->mark, http_input_offset(in));
    }
    in->p++;
    rq->step = HTTP_STEP_VALUE_LF;
}

void http_fields_step(struct http_request *rq, struct http_input *in)
{
    switch (rq->step) {
    case HTTP_STEP_FIELD:
        step_field(rq, in);
        break;
    case HTTP_STEP_NAME:
        step_name(rq, in);
        break;
    case HTTP_STEP_VALUE:
        step_value(rq, in);
        break;
    case HTTP_STEP_VALUE_LF:
        http_expect_lf(rq, in, HTTP_STEP_FIELD);
        break;
    default: /* HTTP_STEP_END_LF */
        http_expect_lf(rq, in, HTTP_STEP_FIELDS_DONE);
        break;
    }
}
