#include "http_oracle.h"

#include <http_parser.h>
#include <stdlib.h>

static int add(struct oracle_text *t, const char *p, size_t n)
{
    if (n > sizeof t->bytes - t->n) {
        return 1;
    }
    memcpy(t->bytes + t->n, p, n);
    t->n += n;
    return 0;
}

static int on_url(http_parser *p, const char *at, size_t n)
{
    struct oracle *o = p->data;
    return add(&o->target, at, n);
}

static int on_field(http_parser *p, const char *at, size_t n)
{
    struct oracle *o = p->data;
    if (o->headers_done) { /* trailers */
        return 0;
    }
    if (o->in_value || o->field_count == 0) {
        if (o->field_count == ORACLE_FIELDS_MAX) {
            return 1;
        }
        o->names[o->field_count].n = o->values[o->field_count].n = 0;
        o->field_count++;
        o->in_value = false;
    }
    return add(&o->names[o->field_count - 1], at, n);
}

static int on_value(http_parser *p, const char *at, size_t n)
{
    struct oracle *o = p->data;
    if (o->headers_done) {
        return 0;
    }
    o->in_value = true;
    return add(&o->values[o->field_count - 1], at, n);
}

static int on_headers(http_parser *p)
{
    struct oracle *o = p->data;
    o->headers_done = true;
    o->method = http_method_str((enum http_method)p->method);
    o->minor = p->http_minor;
    return 0;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
    struct oracle *o = p->data;
    return add(&o->body, at, n);
}

static int on_complete(http_parser *p)
{
    struct oracle *o = p->data;
    o->complete = true;
    http_parser_pause(p, 1);
    return 0;
}

void oracle_parse(struct oracle *o, struct slice input)
{
    http_parser parser;
    http_parser_settings settings;
    http_parser_settings_init(&settings);
    settings.on_url = on_url;
    settings.on_header_field = on_field;
    settings.on_header_value = on_value;
    settings.on_headers_complete = on_headers;
    settings.on_body = on_body;
    settings.on_message_complete = on_complete;
    o->complete = o->in_value = o->headers_done = false;
    o->field_count = o->target.n = o->body.n = 0;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = o;
    /* one byte a call: paused inside a call it stops up to one byte short of the message's end */
    for (o->used = 0; o->used < input.n && !o->complete; o->used++) {
        if (http_parser_execute(&parser, &settings, input.p + o->used, 1) != 1 && !o->complete) {
            return;
        }
    }
    /* behind "Upgrade" it stops reading HTTP; we ignore the offer, as RFC 9110 7.8 allows */
    o->complete = o->complete && !parser.upgrade;
}
