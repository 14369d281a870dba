/* The JSON documents of the admin service. Ids and positions are strings, as everywhere: a
 * connection's id does not fit the numbers of JavaScript. */
#include "admin/answers/admin_json.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <uv.h>

/* jansson's setters take the value also when they fail, and NULL is a failure: what could not be
 * made shows in the sum of their results. */

json_t *admin_json_string(const char *value)
{
    return value ? json_string(value) : json_null();
}

json_t *admin_json_every(const struct broker_connection *c)
{
    return c->every_ms ? json_real((double)c->every_ms / 1000) : json_null();
}

json_t *admin_json_text(struct slice value)
{
    return !value.p ? json_null()
           : utf8_ok(value)
               ? json_stringn(value.p, value.n)
               : json_string("(not UTF-8)"); /* the rest of the document is worth more */
}

json_t *admin_json_count(uint64_t value)
{
    return json_integer((json_int_t)value);
}

json_t *admin_json_connection_id(bool alone, uint64_t id)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%s%" PRIu64, alone ? "1-" : "", id);
    return json_string(digits);
}

json_t *admin_json_id(uint64_t id)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, id);
    return json_string(digits);
}

json_t *admin_json_seconds(double value)
{
    return json_real(round(value * 1000) / 1000);
}

json_t *admin_json_time(int64_t unix_ms)
{
    time_t s = (time_t)(unix_ms / 1000);
    struct tm utc;
    char iso[32];
    if (!gmtime_r(&s, &utc) || strftime(iso, sizeof iso, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0) {
        return json_null();
    }
    return json_string(iso);
}

static int admin_json_dump_chunk(const char *buffer, size_t size, void *out)
{
    return strbuf_append(out, buffer, size);
}

int admin_json_dump(json_t *root, int failed, struct strbuf *out)
{
    int rc = UV_ENOMEM;
    if (root && !failed) {
        rc = json_dump_callback(root, admin_json_dump_chunk, out,
                                JSON_INDENT(2) | JSON_REAL_PRECISION(15))
                 ? UV_ENOBUFS
                 : 0;
    }
    json_decref(root);
    return rc ? rc : strbuf_append(out, "\n", 1);
}

static const char *mode_name(enum reload_mode mode)
{
    static const char *const names[] = {"resubscribe", "keep", "reconnect"};
    return names[mode];
}

static int put_names(json_t *o, const char *key, const struct policy_names *names)
{
    json_t *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < names->n; i++) {
        bad |= json_array_append_new(list, admin_json_string(names->v[i]));
    }
    return json_object_set_new(o, key, list) | bad;
}

static int put_changes(json_t *o, const char *key, const struct policy_names *added,
                       const struct policy_names *removed)
{
    json_t *changes = json_object();
    int bad = put_names(changes, "added", added) | put_names(changes, "removed", removed);
    return json_object_set_new(o, key, changes) | bad;
}

static json_t *dry_run_document(const struct dry_run_report *t)
{
    return json_pack("{s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i, s:i}}", "connects", t->connects,
                     "judgements", t->judgements, "errors", t->errors, "streams", "asked",
                     t->streams, "same", t->same, "moved", t->moved, "denied", t->denied, "unknown",
                     t->unknown);
}

static json_t *policy_document(const char *version, const char *label)
{
    return json_pack("{s:s?, s:s?}", "version", version, "label", label);
}

int admin_json_policy(const struct policy_report *r, bool alone, struct strbuf *out)
{
    static const char *const outcomes[] = {"reloaded", "would-reload", "unchanged",  "rolled-back",
                                           "refused",  "busy",         "no-previous"};
    json_t *o = json_object();
    int bad = json_object_set_new(o, "result", admin_json_string(outcomes[r->outcome]));
    if (r->error) {
        bad |= json_object_set_new(o, "error", admin_json_string(r->error));
    }
    if (r->previous) {
        bad |= json_object_set_new(o, "previous", policy_document(r->previous, r->previous_label));
    }
    if (r->version) {
        bad |= json_object_set_new(o, "policy", policy_document(r->version, r->label));
    }
    if (r->dry_run) {
        bad |= json_object_set_new(o, "dry_run", dry_run_document(r->dry_run));
    }
    if (!r->error) {
        bad |= json_object_set_new(o, "streams", admin_json_count(r->streams));
        bad |= json_object_set_new(o, "mode", admin_json_string(mode_name(r->mode)));
    }
    if (r->outcome == POLICY_RELOADED || r->outcome == POLICY_WOULD_RELOAD) {
        bad |= put_changes(o, "filters", &r->filters_added, &r->filters_removed);
        bad |= put_changes(o, "formats", &r->formats_added, &r->formats_removed);
        bad |= put_names(o, "settings_changed", &r->settings_changed);
    }
    if (alone) {
        json_t *self = json_copy(o);
        bad |= json_object_set_new(self, "worker", json_integer(1));
        bad |= json_object_set_new(o, "workers", json_pack("[o]", self));
    }
    return admin_json_dump(o, bad, out);
}

struct listing {
    json_t *list; /* owned */
    const struct admin *admin;
    const struct connection_filter *filter;
    size_t bytes, total, matched;
    int bad;
};

/* Half of what may be sent: the other half is for names, quotes and escapes. */
enum { LISTING_MAX_BYTES = ADMIN_JSON_MAX_BYTES / 2 };

static json_t *texts_document(const struct slice *texts, size_t n)
{
    json_t *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= json_array_append_new(list, admin_json_text(texts[i]));
    }
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

json_t *admin_json_topics(const struct broker_connection *c)
{
    return texts_document(c->topics, c->topic_count);
}

json_t *admin_json_params(struct slice params)
{
    json_t *o = params.p ? json_loadb(params.p, params.n, 0, NULL) : json_null();
    return o ? o : admin_json_text(params);
}

json_t *admin_json_who(struct slice identity, const struct identity_shown *shown)
{
    json_t *o = json_object();
    int bad = 0;
    for (size_t i = 0; i < shown->count; i++) {
        struct slice value;
        if (identity_field(identity, slice_str(shown->names[i]), &value)) {
            bad |= json_object_set_new(o, shown->names[i],
                                       json_loadb(value.p, value.n, JSON_DECODE_ANY, NULL));
        }
    }
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *quotas_json(const struct broker_connection *c)
{
    json_t *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < c->quota_count; i++) {
        const struct quota_want *q = &c->quotas[i];
        bad |= json_array_append_new(
            list, json_pack("{s:o, s:I, s:s}", "key", admin_json_text(q->key), "max",
                            (json_int_t)q->max, "over", q->oldest ? "oldest" : "deny"));
    }
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static void list_connection(void *ctx, const struct broker_connection *c)
{
    struct listing *l = ctx;
    const struct identity_shown *shown = &l->admin->identity_shown;
    size_t bytes = 400 + c->filter.n + c->format.n + c->params.n + c->ends.n + c->presence.n +
                   (shown->count ? c->identity.n : 0);
    for (size_t i = 0; i < c->topic_count; i++) {
        bytes += c->topics[i].n + 16;
    }
    for (size_t i = 0; i < c->tag_count; i++) {
        bytes += c->tags[i].n + 16;
    }
    for (size_t i = 0; i < c->quota_count; i++) {
        bytes += c->quotas[i].key.n + 64;
    }
    l->total++;
    if (!connection_filter_matches(l->filter, c)) {
        return;
    }
    l->matched++;
    if (json_array_size(l->list) >= l->filter->limit || l->bytes + bytes > LISTING_MAX_BYTES) {
        return;
    }
    l->bytes += bytes;
    json_t *o = json_object();
    int bad = json_object_set_new(o, "id", admin_json_connection_id(l->admin->alone, c->id));
    bad |= json_object_set_new(o, "worker", json_integer(1)); /* the admin process knows better */
    bad |= json_object_set_new(o, "client", admin_json_string(c->client));
    bad |= json_object_set_new(o, "protocol", json_string(c->protocol));
    bad |= json_object_set_new(o, "seconds", admin_json_seconds(c->seconds));
    bad |= json_object_set_new(o, "topics", admin_json_topics(c));
    bad |= json_object_set_new(o, "filter", admin_json_text(c->filter));
    bad |= json_object_set_new(o, "format", admin_json_text(c->format));
    bad |= json_object_set_new(o, "params", admin_json_params(c->params));
    bad |= json_object_set_new(o, "envelope", json_boolean(c->envelope));
    bad |= json_object_set_new(o, "every_s", admin_json_every(c));
    bad |= json_object_set_new(o, "ends", admin_json_text(c->ends));
    if (shown->count) {
        bad |= json_object_set_new(o, "who", admin_json_who(c->identity, shown));
    }
    bad |= json_object_set_new(o, "tags", texts_document(c->tags, c->tag_count));
    bad |= json_object_set_new(o, "quota", quotas_json(c));
    bad |= json_object_set_new(o, "presence", admin_json_text(c->presence));
    bad |= json_object_set_new(o, "cursor", admin_json_id(c->cursor));
    bad |= json_object_set_new(o, "lag", admin_json_count(c->lag));
    bad |= json_object_set_new(o, "behind", json_boolean(c->behind));
    bad |= json_object_set_new(o, "delivered", admin_json_count(c->delivered));
    l->bad |= bad | json_array_append_new(l->list, o);
}

int admin_json_connections(const struct admin *a, const struct connection_filter *filter,
                           struct strbuf *out)
{
    struct listing l = {.list = json_array(), .admin = a, .filter = filter};
    broker_each_connection(a->broker, list_connection, &l);
    size_t shown = json_array_size(l.list);
    json_t *o = json_object();
    int bad = l.bad;
    bad |= json_object_set_new(o, "total", admin_json_count(l.total));
    bad |= json_object_set_new(o, "matched", admin_json_count(l.matched));
    bad |= json_object_set_new(o, "truncated", json_boolean(shown < l.matched));
    bad |= json_object_set_new(o, "connections", l.list);
    return admin_json_dump(o, bad, out);
}
