#include "admin/answers/connection_filter.h"

#include "base/decimal.h"

#include <stdio.h>
#include <uv.h>

static const char who_prefix[] = "who.";

/* The field is not among those that may be seen. */
static int filter_refuse_field(struct slice name, const struct identity_shown *shown, struct err *e)
{
    char list[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < shown->count && n < sizeof list; i++) {
        n += (size_t)snprintf(list + n, sizeof list - n, "\"%s\", ", shown->names[i]);
    }
    return err_set(e, UV_EINVAL,
                   "who.%.*s: operators do not see this field of identities. The configuration can "
                   "let them: admin_identity = { %s\"%.*s\" }",
                   (int)name.n, name.p, list, (int)name.n, name.p);
}

static int filter_read_who(struct connection_filter *f, const struct http_param *p,
                           const struct identity_shown *shown, struct err *e)
{
    size_t skip = sizeof who_prefix - 1;
    struct slice name = slice_of(p->name.p + skip, p->name.n - skip);
    if (name.n == 0 || name.n > 64) {
        return err_set(e, UV_EINVAL, "who.: the name of a field is missing, as in who.sub=ann");
    }
    if (!identity_is_shown(shown, name)) {
        return filter_refuse_field(name, shown, e);
    }
    if (f->who_count == CONNECTION_FILTER_WHO_MAX) {
        return err_set(e, UV_EINVAL, "who.%.*s: at most %d fields of identities can be asked for",
                       (int)name.n, name.p, CONNECTION_FILTER_WHO_MAX);
    }
    f->who[f->who_count++] = (struct http_param){name, p->value};
    return 0;
}

static int filter_read_text(struct slice *out, const struct http_param *p, struct err *e)
{
    if (out->p) {
        return err_set(e, UV_EINVAL, "%.*s: given twice", (int)p->name.n, p->name.p);
    }
    *out = p->value;
    return 0;
}

static int filter_read_reason(struct connection_filter *f, const struct http_param *p,
                              struct err *e)
{
    if (p->value.n > POLICY_END_REASON_MAX_BYTES) {
        return err_set(e, UV_EINVAL, "reason: at most %d bytes were expected",
                       POLICY_END_REASON_MAX_BYTES);
    }
    return filter_read_text(&f->reason, p, e);
}

static int filter_read_param(struct connection_filter *f, const struct http_param *p,
                             const struct identity_shown *shown, bool order, struct err *e)
{
    size_t skip = sizeof who_prefix - 1;
    if (p->name.n >= skip && memcmp(p->name.p, who_prefix, skip) == 0) {
        return filter_read_who(f, p, shown, e);
    }
    if (slice_is(p->name, "client")) {
        return filter_read_text(&f->client, p, e);
    }
    if (slice_is(p->name, "topic")) {
        return filter_read_text(&f->topic, p, e);
    }
    if (slice_is(p->name, "tag")) {
        return filter_read_text(&f->tag, p, e);
    }
    if (order && slice_is(p->name, "reason")) {
        return filter_read_reason(f, p, e);
    }
    if (order || !slice_is(p->name, "limit")) {
        return err_set(e, UV_EINVAL, "%.*s: there are %s, client, topic, tag and who.FIELD",
                       (int)(p->name.n < 64 ? p->name.n : 64), p->name.p,
                       order ? "reason" : "limit");
    }
    return decimal_parse(p->value, CONNECTION_FILTER_LIMIT_MAX, &f->limit) && f->limit > 0
               ? 0
               : err_set(e, UV_EINVAL, "limit: expected a number from 1 to %d",
                         CONNECTION_FILTER_LIMIT_MAX);
}

int connection_filter_read(struct connection_filter *f, struct slice query,
                           const struct identity_shown *shown, bool order, struct err *e)
{
    *f = (struct connection_filter){.limit = CONNECTION_FILTER_LIMIT_DEFAULT};
    if (http_query_parse(&f->query, query)) {
        return err_set(e, UV_EINVAL, "The query is not well-formed.");
    }
    int rc = 0;
    for (size_t i = 0; i < f->query.count && rc == 0; i++) {
        rc = filter_read_param(f, &f->query.params[i], shown, order, e);
    }
    if (rc == 0 && order && !connection_filter_selects(f)) {
        rc = err_set(e, UV_EINVAL,
                     "Say which streams: tag, client, topic or who.FIELD, as in ?tag=user:ann");
    }
    if (rc) {
        connection_filter_clear(f);
    }
    return rc;
}

bool connection_filter_selects(const struct connection_filter *f)
{
    return f->client.p || f->topic.p || f->tag.p || f->who_count;
}

void connection_filter_clear(struct connection_filter *f)
{
    http_query_clear(&f->query);
}

static bool filter_is_among(struct slice text, const struct slice *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slice_eq(list[i], text)) {
            return true;
        }
    }
    return false;
}

bool connection_filter_matches(const struct connection_filter *f, const struct broker_connection *c)
{
    if ((f->client.p && !slice_is(f->client, c->client)) ||
        (f->topic.p && !filter_is_among(f->topic, c->topics, c->topic_count)) ||
        (f->tag.p && !filter_is_among(f->tag, c->tags, c->tag_count))) {
        return false;
    }
    for (size_t i = 0; i < f->who_count; i++) {
        if (!identity_field_is(c->identity, f->who[i].name, f->who[i].value)) {
            return false;
        }
    }
    return true;
}
