#include "broker/http/accept_field.h"

#include <string.h>

/* Cuts the part before `separator` off *rest, without surrounding white space. */
static struct slice accept_cut(struct slice *rest, char separator)
{
    const char *at = memchr(rest->p, separator, rest->n);
    struct slice item = slice_of(rest->p, at ? (size_t)(at - rest->p) : rest->n);
    size_t used = item.n + (at ? 1 : 0);
    *rest = slice_of(rest->p + used, rest->n - used);
    while (item.n && (*item.p == ' ' || *item.p == '\t')) {
        item.p++;
        item.n--;
    }
    while (item.n && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t')) {
        item.n--;
    }
    return item;
}

/* "q=0", "q=0.000": not acceptable (RFC 9110, 12.4.2). */
static bool accept_excludes(struct slice parameters)
{
    while (parameters.n) {
        struct slice p = accept_cut(&parameters, ';');
        if (p.n > 2 && (*p.p == 'q' || *p.p == 'Q') && p.p[1] == '=') {
            return strspn(p.p + 2, "0.") >= p.n - 2;
        }
    }
    return false;
}

static bool accept_gzip(const struct http_request *rq)
{
    bool named = false;
    bool good = false;
    bool any = false;
    for (size_t i = 0; i < rq->header_count; i++) {
        struct slice list = rq->headers[i].value;
        if (!slice_is_nocase(rq->headers[i].name, "Accept-Encoding")) {
            continue;
        }
        while (list.n) {
            struct slice parameters = accept_cut(&list, ',');
            struct slice coding = parameters.n ? accept_cut(&parameters, ';') : parameters;
            bool excluded = accept_excludes(parameters);
            if (slice_is_nocase(coding, "gzip") || slice_is_nocase(coding, "x-gzip")) {
                named = true;
                good |= !excluded;
            }
            any |= !excluded && slice_is(coding, "*");
        }
    }
    return named ? good : any;
}

struct accept accept_of(const struct http_request *rq)
{
    struct accept a = {.gzip = accept_gzip(rq)};
    for (size_t i = 0; i < rq->header_count; i++) {
        struct slice list = rq->headers[i].value;
        if (!slice_is_nocase(rq->headers[i].name, "Accept")) {
            continue;
        }
        a.given = true;
        while (list.n) {
            struct slice parameters = accept_cut(&list, ',');
            struct slice type = parameters.n ? accept_cut(&parameters, ';') : parameters;
            bool excluded = accept_excludes(parameters);
            if (slice_is_nocase(type, "text/event-stream")) {
                a.stream |= !excluded;
                a.no_stream |= excluded;
            }
            a.any |= !excluded && slice_is(type, "*/*");
            a.lines |= !excluded && (slice_is_nocase(type, "application/x-ndjson") ||
                                     slice_is_nocase(type, "application/ndjson"));
            a.text |= !excluded && slice_is_nocase(type, "text/*");
            a.json |= !excluded && (slice_is_nocase(type, "application/json") ||
                                    slice_is_nocase(type, "application/*"));
        }
    }
    a.stream = a.stream && !a.no_stream;
    return a;
}
