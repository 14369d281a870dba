#include "net/h2/h2_response.h"

#include <stdio.h>
#include <uv.h>

static int h2_response_add(struct h2_response *out, struct slice name, struct slice value)
{
    if (out->n == H2_RESPONSE_FIELDS_MAX) {
        return UV_ENOBUFS;
    }
    /* nghttp2 copies both, and makes the name lower-case */
    out->nv[out->n++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
                                     .namelen = name.n,
                                     .value = (uint8_t *)(uintptr_t)value.p,
                                     .valuelen = value.n};
    return 0;
}

/* "Name: value\r\n" each. */
static int h2_response_add_lines(struct h2_response *out, struct slice lines)
{
    while (lines.n) {
        const char *end = memchr(lines.p, '\r', lines.n);
        const char *colon = end ? memchr(lines.p, ':', (size_t)(end - lines.p)) : NULL;
        if (!colon || end - colon < 2 || colon[1] != ' ') {
            return UV_ENOBUFS;
        }
        int rc = h2_response_add(out, slice_of(lines.p, (size_t)(colon - lines.p)),
                                 slice_of(colon + 2, (size_t)(end - colon) - 2));
        if (rc) {
            return rc;
        }
        size_t used = (size_t)(end - lines.p) + 2;
        lines = used < lines.n ? slice_of(lines.p + used, lines.n - used) : slice_of(NULL, 0);
    }
    return 0;
}

int h2_response_of(const struct http_response *r, struct http_framing f, struct h2_response *out)
{
    /* RFC 9110 8.6, 15.3.5, 15.4.5: these have neither a body nor a length of it */
    bool bodiless = r->status < 200 || r->status == 204 || r->status == 304;
    bool sized = !bodiless && !f.event_stream && !r->no_length;
    size_t body = r->content_type ? r->body.n : 0;
    out->n = 0;
    out->send_body = sized && !f.head_only && body > 0;
    snprintf(out->status, sizeof out->status, "%d", r->status);
    snprintf(out->length, sizeof out->length, "%zu", body);
    int rc = h2_response_add(out, slice_str(":status"), slice_str(out->status));
    if (rc == 0 && !bodiless && r->content_type) {
        rc = h2_response_add(out, slice_str("content-type"), slice_str(r->content_type));
    }
    if (rc == 0 && sized) {
        rc = h2_response_add(out, slice_str("content-length"), slice_str(out->length));
    }
    if (rc == 0 && r->hsts_s) {
        snprintf(out->hsts, sizeof out->hsts, "max-age=%u", r->hsts_s);
        rc = h2_response_add(out, slice_str("strict-transport-security"), slice_str(out->hsts));
    }
    if (rc == 0 && r->request_id) {
        rc = h2_response_add(out, slice_str("x-request-id"), slice_str(r->request_id));
    }
    rc = rc ? rc : h2_response_add_lines(out, r->fields);
    return rc ? rc : h2_response_add_lines(out, r->more_fields);
}
