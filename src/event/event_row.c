/* See event_row.h. */
#include "event/event_row.h"

#include "event/event_attrs.h"

#include <jansson.h>

static const char *event_row_attrs(struct event_fields *f, struct strbuf *out)
{
    if (!f->attrs.p) {
        return NULL;
    }
    json_t *parsed = json_loadb(f->attrs.p, f->attrs.n, JSON_REJECT_DUPLICATES, NULL);
    if (!parsed) {
        return "attrs: are not valid JSON";
    }
    const char *bad = event_attrs_canonical(parsed, out);
    json_decref(parsed);
    f->attrs = strbuf_slice(out);
    return bad;
}

struct event *event_from_row(const struct event_fields *f, uint64_t id, size_t max_data,
                             const char **reason)
{
    struct event_fields fields = *f;
    struct strbuf attrs;
    struct event *ev = NULL;
    strbuf_init(&attrs, EVENT_ATTRS_MAX_BYTES);
    *reason = event_row_attrs(&fields, &attrs);
    *reason = *reason ? *reason : event_check(&fields, max_data);
    if (!*reason) {
        ev = event_new(&fields);
        if (ev) {
            ev->id = id;
        }
    }
    strbuf_clear(&attrs);
    return ev;
}
