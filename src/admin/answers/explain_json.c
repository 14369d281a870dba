#include "admin/answers/explain_json.h"

#include "admin/answers/admin_json.h"

#include <stdio.h>

enum { TEXT_MAX_BYTES = 16 * 1024, TOPICS_SHOWN = 5 };

static const char *outcome_name(enum explain_outcome outcome)
{
    static const char *const names[] = {
        [EXPLAIN_DELIVERED] = "delivered",
        [EXPLAIN_NOT_DELIVERED] = "not-delivered",
        [EXPLAIN_WOULD] = "would-deliver",
        [EXPLAIN_WOULD_NOT] = "would-not-deliver",
    };
    return names[outcome];
}

static const char *reason_name(enum explain_reason reason)
{
    static const char *const names[] = {
        [EXPLAIN_NONE] = NULL,
        [EXPLAIN_TOPIC] = "topic",
        [EXPLAIN_FILTERED] = "filtered",
        [EXPLAIN_FILTER_ERROR] = "filter-error",
        [EXPLAIN_FORMAT_NIL] = "format-nil",
        [EXPLAIN_FORMAT_ERROR] = "format-error",
        [EXPLAIN_HELD] = "held",
        [EXPLAIN_BEFORE_CONNECT] = "before-connect",
        [EXPLAIN_NO_REPLAY] = "no-replay",
        [EXPLAIN_EXPIRED] = "expired",
        [EXPLAIN_LAG_SKIPPED] = "lag-skipped",
        [EXPLAIN_SUPERSEDED] = "superseded",
        [EXPLAIN_EVENT_EXPIRED] = "event-expired",
    };
    return names[reason];
}

static const char *place_name(enum explain_place place)
{
    static const char *const names[] = {
        [EXPLAIN_NOT_STORED] = "not-stored",
        [EXPLAIN_AHEAD] = "ahead",
        [EXPLAIN_PASSED] = "passed",
        [EXPLAIN_PASSED_BEFORE] = "passed-before",
        [EXPLAIN_BEFORE_START] = "before-start",
        [EXPLAIN_SKIPPED] = "skipped",
    };
    return names[place];
}

static json_t *connection_document(const struct explanation *x, const struct admin *a)
{
    const struct broker_connection *c = &x->connection;
    json_t *o = json_object();
    int bad = json_object_set_new(o, "id", admin_json_connection_id(a->alone, c->id));
    bad |= json_object_set_new(o, "worker", json_integer(1)); /* the admin process knows better */
    bad |= json_object_set_new(o, "client", json_string(c->client));
    if (a->identity_shown.count) {
        bad |= json_object_set_new(o, "who", admin_json_who(c->identity, &a->identity_shown));
    }
    bad |= json_object_set_new(o, "state", json_string(x->state));
    bad |= json_object_set_new(o, "resubscribing", json_boolean(x->resubscribing));
    bad |= json_object_set_new(o, "began_behind", admin_json_id(x->start));
    bad |= json_object_set_new(o, "cursor", admin_json_id(c->cursor));
    bad |= json_object_set_new(o, "lag", json_integer((json_int_t)c->lag));
    bad |= json_object_set_new(o, "topics", admin_json_topics(c));
    bad |= json_object_set_new(o, "filter", admin_json_text(c->filter));
    bad |= json_object_set_new(o, "format", admin_json_text(c->format));
    bad |= json_object_set_new(o, "params", admin_json_params(c->params));
    bad |= json_object_set_new(o, "envelope", json_boolean(c->envelope));
    bad |= json_object_set_new(o, "every_s", admin_json_every(c));
    bad |= json_object_set_new(o, "ends", admin_json_text(c->ends));
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *event_document(const struct explanation *x)
{
    const struct event *ev = x->event;
    json_t *o = json_object();
    int bad = json_object_set_new(o, "id", x->event_id ? admin_json_id(x->event_id) : json_null());
    bad |= json_object_set_new(o, "removed", json_boolean(!ev));
    if (ev) {
        bad |= json_object_set_new(o, "topic", admin_json_text(event_topic(ev)));
        bad |= json_object_set_new(o, "type", admin_json_text(event_type(ev)));
        bad |= json_object_set_new(o, "time", admin_json_time(ev->time_ms));
        bad |=
            ev->expires_ms ? json_object_set_new(o, "expires", admin_json_time(ev->expires_ms)) : 0;
        bad |= json_object_set_new(o, "bytes", json_integer((json_int_t)event_data(ev).n));
    }
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* ---------------------------------------------------------------- steps */

struct steps {
    json_t *list; /* owned */
    int bad;
};

/* A new one, borrowed from the list. `text` is cleared; `rc`: it could not be made. */
static json_t *add_step(struct steps *s, const char *name, bool ok, int rc, struct strbuf *text)
{
    json_t *o = json_object();
    s->bad |= rc | json_object_set_new(o, "step", json_string(name));
    s->bad |= json_object_set_new(o, "ok", json_boolean(ok));
    s->bad |= json_object_set_new(o, "text", json_stringn(text->data ? text->data : "", text->len));
    s->bad |= json_array_append_new(s->list, o);
    strbuf_clear(text);
    return o;
}

static int put_slice(struct strbuf *out, struct slice s)
{
    return strbuf_append(out, s.p ? s.p : "", s.n);
}

static void topic_step(struct steps *s, const struct explanation *x)
{
    const struct broker_connection *c = &x->connection;
    bool ok = x->pattern.p != NULL;
    struct strbuf text;
    strbuf_init(&text, TEXT_MAX_BYTES);
    int rc = put_slice(&text, event_topic(x->event));
    rc = rc ? rc : strbuf_append_str(&text, " ~ ");
    rc = rc || !ok ? rc : put_slice(&text, x->pattern);
    for (size_t i = 0; !ok && i < c->topic_count && i < TOPICS_SHOWN && rc == 0; i++) {
        rc = i ? strbuf_append_str(&text, ", ") : 0;
        rc = rc ? rc : put_slice(&text, c->topics[i]);
    }
    if (rc == 0 && !ok && c->topic_count > TOPICS_SHOWN) {
        rc = strbuf_printf(&text, ", %zu more", c->topic_count - TOPICS_SHOWN);
    }
    rc = rc ? rc : strbuf_append_str(&text, ok ? ": yes" : ": no");
    add_step(s, "topic", ok, rc, &text);
}

static void put_lines(struct steps *s, json_t *step, const struct policy_account *a)
{
    json_t *list = json_array();
    const char *at = a->lines.data;
    const char *end = at + a->lines.len;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        s->bad |= json_array_append_new(list, json_stringn(at, (size_t)(stop - at)));
        at = stop + 1;
    }
    if (a->cut) {
        s->bad |= json_array_append_new(list, json_string("... (too much to be shown)"));
    }
    s->bad |= json_object_set_new(step, "lines", list);
}

static void put_account(struct steps *s, json_t *step, struct slice name,
                        const struct policy_account *a)
{
    s->bad |= json_object_set_new(step, "name", admin_json_text(name));
    if (a->kind) {
        s->bad |= json_object_set_new(step, "kind", json_string(a->kind));
    }
    if (a->where[0]) {
        s->bad |= json_object_set_new(step, "where", json_string(a->where));
    }
    if (a->why.len) {
        s->bad |= json_object_set_new(step, "why", json_stringn(a->why.data, a->why.len));
    }
    if (a->lines.len || a->cut) {
        put_lines(s, step, a);
    }
}

static int put_failure(struct strbuf *text, const struct policy_account *a)
{
    if (a->out_of_use) {
        return strbuf_append_str(text,
                                 "disabled until the policy is reloaded: it failed too often");
    }
    int rc = strbuf_append_str(text, "failed: ");
    return rc           ? rc
           : a->why.len ? put_slice(text, strbuf_slice(&a->why))
                        : strbuf_append_str(text, "no frame can be made of it");
}

static void held_step(struct steps *s, const struct explanation *x)
{
    const struct broker_connection *c = &x->connection;
    struct strbuf text;
    strbuf_init(&text, TEXT_MAX_BYTES);
    int rc = strbuf_append_str(&text, "the current policy does not have the stream's filter ");
    rc = rc ? rc : put_slice(&text, c->filter.p ? c->filter : slice_str("(none)"));
    rc = rc ? rc : strbuf_append_str(&text, " and format ");
    rc = rc ? rc : put_slice(&text, c->format.p ? c->format : slice_str("raw"));
    add_step(s, "filter", false, rc, &text);
}

static void filter_step(struct steps *s, const struct explanation *x)
{
    const struct policy_account *a = &x->filter;
    bool failed = x->reason == EXPLAIN_FILTER_ERROR;
    bool ok = !failed && x->reason != EXPLAIN_FILTERED;
    struct strbuf text;
    strbuf_init(&text, TEXT_MAX_BYTES);
    int rc = 0;
    if (!a->kind) {
        rc = strbuf_append_str(&text, "none: every event of its topics");
    } else {
        rc = put_slice(&text, x->connection.filter);
        rc = rc ? rc : strbuf_append_str(&text, ": ");
        rc = rc       ? rc
             : failed ? put_failure(&text, a)
                      : strbuf_append_str(&text, ok ? "true" : "false");
    }
    if (rc == 0 && !failed && a->why.len) {
        rc = strbuf_append_str(&text, ", ");
        rc = rc ? rc : put_slice(&text, strbuf_slice(&a->why));
    }
    put_account(s, add_step(s, "filter", ok, rc, &text), x->connection.filter, a);
}

static void format_step(struct steps *s, const struct explanation *x)
{
    const struct policy_account *a = &x->format;
    struct slice name = x->connection.format.p ? x->connection.format : slice_str("raw");
    bool ok = x->reason != EXPLAIN_FORMAT_NIL && x->reason != EXPLAIN_FORMAT_ERROR;
    struct strbuf text;
    strbuf_init(&text, TEXT_MAX_BYTES);
    int rc = put_slice(&text, name);
    rc = rc ? rc : strbuf_append_str(&text, ": ");
    if (rc == 0 && ok) {
        rc = strbuf_printf(&text, "%zu bytes in the stream", x->frame_bytes);
    } else if (rc == 0 && x->reason == EXPLAIN_FORMAT_NIL) {
        rc = strbuf_append_str(&text, "nil, which leaves the event out");
    } else if (rc == 0) {
        rc = put_failure(&text, a);
    }
    put_account(s, add_step(s, "format", ok, rc, &text), name, a);
}

/* Of an audience that has such a filter. */
static void ends_step(struct steps *s, const struct explanation *x)
{
    const struct policy_account *a = &x->ends;
    struct strbuf text;
    strbuf_init(&text, TEXT_MAX_BYTES);
    int rc = put_slice(&text, x->connection.ends);
    rc = rc ? rc : strbuf_append_str(&text, ": ");
    rc = rc          ? rc
         : a->failed ? put_failure(&text, a)
                     : strbuf_append_str(&text, x->ends_stream ? "true, the stream ends with it"
                                                               : "false, the stream goes on");
    put_account(s, add_step(s, "ends", !a->failed, rc, &text), x->connection.ends, a);
}

static void place_step(struct steps *s, const struct explanation *x)
{
    bool ok = x->place != EXPLAIN_BEFORE_START && x->place != EXPLAIN_SKIPPED;
    struct strbuf text;
    strbuf_init(&text, TEXT_MAX_BYTES);
    int rc = strbuf_append_str(&text, x->text);
    add_step(s, "place", ok, rc, &text);
}

/* Of an event that expires. */
static void expiry_step(struct steps *s, const struct explanation *x)
{
    int64_t ms = x->event->expires_ms;
    json_t *time = admin_json_time(ms);
    const char *at = json_string_value(time);
    struct strbuf text;
    strbuf_init(&text, TEXT_MAX_BYTES);
    int rc =
        strbuf_printf(&text, "%s at %s%s", x->past ? "it expired" : "it expires", at ? at : "?",
                      x->expired ? ", before the stream could be given it"
                      : x->past  ? "; the stream was open before"
                                 : "");
    add_step(s, "expiry", !x->expired, rc, &text);
    json_decref(time);
}

static json_t *steps_document(const struct explanation *x)
{
    struct steps s = {.list = json_array()};
    bool filtered = x->reason == EXPLAIN_FILTERED || x->reason == EXPLAIN_FILTER_ERROR;
    if (x->event) {
        topic_step(&s, x);
    }
    if (x->event && x->pattern.p) {
        if (x->held) {
            held_step(&s, x);
        } else {
            filter_step(&s, x);
        }
        if (!x->held && !filtered) {
            format_step(&s, x);
        }
        if (x->ends.asked || x->ends.failed) {
            ends_step(&s, x);
        }
    }
    if (x->event && x->event->expires_ms) {
        expiry_step(&s, x);
    }
    place_step(&s, x);
    if (s.bad) {
        json_decref(s.list);
        return NULL;
    }
    return s.list;
}

/* The place in the policy's files that a rule's refusal is about. */
static const char *where_of(const struct explanation *x)
{
    bool filter = x->reason == EXPLAIN_FILTERED || x->reason == EXPLAIN_FILTER_ERROR;
    bool format = x->reason == EXPLAIN_FORMAT_NIL || x->reason == EXPLAIN_FORMAT_ERROR;
    const char *where = filter ? x->filter.where : format ? x->format.where : "";
    return *where ? where : NULL;
}

int explain_json(const struct explanation *x, const struct admin *a, const struct admin_state *st,
                 struct strbuf *out)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "outcome", json_string(outcome_name(x->outcome)));
    const char *reason = reason_name(x->reason), *where = where_of(x);
    bad |= json_object_set_new(o, "reason", reason ? json_string(reason) : json_null());
    bad |= json_object_set_new(o, "where", where ? json_string(where) : json_null());
    bad |= json_object_set_new(o, "place", json_string(place_name(x->place)));
    bad |= json_object_set_new(
        o, "policy",
        json_pack("{s:s?, s:s?}", "version", st->policy_version, "label", st->policy_label));
    bad |= json_object_set_new(o, "connection", connection_document(x, a));
    bad |= json_object_set_new(o, "event", event_document(x));
    bad |= json_object_set_new(o, "steps", steps_document(x));
    return admin_json_dump(o, bad, out);
}
