/* A form -> JSON: {"topic":["a","b"],"data":["hello"]}, a list of values for each name, in the order of the form. */
#include "base/text/json_text.h"
#include "event/publish/publish_body_state.h"

#include <uv.h>

/* Has an earlier field of the form that name? */
static bool publish_form_named_before(const struct http_query *form, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (slice_eq(form->params[i].name, form->params[at].name)) {
            return true;
        }
    }
    return false;
}

static int publish_form_list(struct strbuf *out, const struct http_query *form, size_t at)
{
    struct slice name = form->params[at].name;
    int rc = json_text_quote(out, name);
    for (size_t i = at; i < form->count && rc == 0; i++) {
        if (slice_eq(form->params[i].name, name)) {
            rc = strbuf_append_str(out, i == at ? ":[" : ",");
            rc = rc ? rc : json_text_quote(out, form->params[i].value);
        }
    }
    return rc ? rc : strbuf_append_str(out, "]");
}

static int publish_form_json(struct strbuf *out, const struct http_query *form)
{
    const char *separator = "{";
    int rc = form->count ? 0 : strbuf_append_str(out, "{");
    for (size_t i = 0; i < form->count && rc == 0; i++) {
        if (!publish_form_named_before(form, i)) {
            rc = strbuf_append_str(out, separator);
            rc = rc ? rc : publish_form_list(out, form, i);
            separator = ",";
        }
    }
    return rc ? rc : strbuf_append_str(out, "}");
}

int publish_body_read_form(struct publish_body_reader *r, struct strbuf *data)
{
    struct http_query form;
    int rc = http_query_parse(&form, strbuf_slice(&r->rq->body));
    if (rc == UV_E2BIG) {
        return publish_body_refuse(r, 400, "body: has more than %d fields", HTTP_QUERY_MAX_PARAMS);
    }
    if (rc == UV_EINVAL) {
        return publish_body_refuse(
            r, 400, "body: has a bad %%-escape, a NUL, or is not UTF-8 when decoded");
    }
    rc = rc ? rc : publish_form_json(data, &form);
    http_query_clear(&form);
    return rc == UV_ENOBUFS
               ? publish_body_refuse(r, 413,
                                     "body: is longer than %zu bytes as JSON, which is "
                                     "what an event may hold",
                                     r->limits->event_bytes)
           : rc ? publish_body_no_memory(r)
                : 0;
}
