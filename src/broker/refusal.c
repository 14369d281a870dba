#include "broker/refusal.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/log_kinds.h"
#include "base/logging.h"
#include "base/require.h"
#include "broker/broker_parts.h"
#include "broker/stream_quotas.h"
#include "event/sse_frame.h"

#include <stdio.h>
#include <stdlib.h>

enum { RETRY_AFTER_S = 5, TRANSIENT_RETRY_MS = 10000, BODY_MAX = 16384 };

struct refusals {
    struct loop *loop;
    const struct broker_options *opt;
    struct broker_metrics *metrics;
    struct jitter *jitter;
    const struct http_server *server; /* NULL: not yet */
    struct list held;                 /* struct held, oldest first */
    struct hash_key key;
    struct log_kinds denials, quotas, transients, invalid, origins; /* lines about them */
};

struct refusals *refusals_new(struct loop *loop, const struct broker_options *opt,
                              struct broker_metrics *metrics, struct jitter *jitter)
{
    struct refusals *r = xcalloc(1, sizeof *r);
    *r = (struct refusals){.loop = loop, .opt = opt, .metrics = metrics, .jitter = jitter};
    list_init(&r->held);
    hash_key_init(&r->key);
    return r;
}

void refusals_set_server(struct refusals *r, const struct http_server *server)
{
    r->server = server;
}

void refusals_free(struct refusals *r)
{
    REQUIRE(list_empty(&r->held));
    free(r);
}

/* ---------------------------------------------------------------- what they leave behind */

enum { REFUSAL_FIELDS = 8, WHO_MAX_BYTES = 512 };

/* `fields` has room for four more: which request it was, and what was left out before. Lines that are
 * left out are there at level debug. */
static void refusal_log(struct refusals *r, struct log_kinds *kinds, uint64_t kind, const char *msg,
                        const struct stream *s, struct log_field *fields, size_t n)
{
    struct request_id id;
    struct log_left_out left_out = {0, 0};
    bool shown = log_kinds_take(kinds, kind, loop_now(r->loop), &left_out);
    stream_request_id(s, &id);
    fields[n++] = log_str("request", id.text);
    if (left_out.same) {
        fields[n++] = log_uint("not_logged", left_out.same);
    }
    if (left_out.others) {
        fields[n++] = log_uint("others_not_logged", left_out.others);
    }
    fields[n] = (struct log_field){.key = NULL};
    log_write(shown ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "broker", msg, fields);
}

static uint64_t refusal_kind(const struct refusals *r, int status, struct slice why)
{
    return hash_bytes(&r->key, why.p, why.n) + (uint64_t)status;
}

void refusal_note_origin(struct refusals *r, const struct stream *s, struct slice origin)
{
    struct log_field fields[REFUSAL_FIELDS] = {log_slice("origin", origin)};
    r->metrics->foreign_origins++;
    refusal_log(r, &r->origins, refusal_kind(r, 0, origin),
                "browsers hide answers from pages of an origin that is not in http.cors_origins", s,
                fields, 1);
}

void refusal_note_webhook(struct refusals *r, const struct stream *s, struct slice origin,
                          struct slice callback)
{
    struct log_field fields[REFUSAL_FIELDS] = {log_slice("origin", origin)};
    size_t n = 1;
    if (callback.n) {
        fields[n++] = log_slice("callback", callback);
    }
    r->metrics->webhooks_not_allowed++;
    refusal_log(r, &r->origins, refusal_kind(r, 1, origin),
                "a sender of web hooks asks to be allowed, and is not in http.webhook_origins", s,
                fields, n);
}

/* ---------------------------------------------------------------- denials */

static void refusal_respond(struct stream *s, int status, const char *field, struct slice detail)
{
    struct strbuf body;
    struct request_id id;
    stream_request_id(s, &id);
    strbuf_init(&body, BODY_MAX);
    if (http_problem(&body, status, detail, id.text)) {
        strbuf_reset(&body); /* the status alone still tells the client what to do */
    }
    struct http_response r = {.status = status,
                              .content_type = HTTP_PROBLEM_TYPE,
                              .body = strbuf_slice(&body),
                              .fields = slice_str(field)};
    (void)stream_respond(s, &r); /* on failure the connection is closed: nothing more to do */
    strbuf_clear(&body);
}

static void refusal_count_denied(struct broker_metrics *m, int status)
{
    switch (status) {
    case 204:
        m->denied_204++;
        break;
    case 400:
        m->denied_400++;
        break;
    case 401:
        m->denied_401++;
        break;
    case 404:
        m->denied_404++;
        break;
    case 429:
        m->denied_429++;
        break;
    default:
        m->denied_403++;
        break;
    }
}

static void refusal_respond_denied(struct stream *s, const struct verdict *v)
{
    char fields[192], after[32] = "";
    if (v->retry_after_s) {
        snprintf(after, sizeof after, "Retry-After: %u\r\n", v->retry_after_s);
    }
    /* RFC 9110, 15.5.2: a 401 names a scheme */
    snprintf(fields, sizeof fields, HTTP_ANSWER_FIELDS "%s%s",
             v->status == 401 ? "WWW-Authenticate: Bearer\r\n" : "", after);
    refusal_respond(s, v->status, fields, v->reason);
}

void refuse_denied(struct refusals *r, struct stream *s, const struct verdict *v)
{
    struct log_field fields[REFUSAL_FIELDS] = {
        log_int("status", v->status),
        log_str("hook", v->hook),
        log_slice("reason", v->reason),
    };
    size_t n = 3;
    struct strbuf who;
    strbuf_init(&who, WHO_MAX_BYTES);
    identity_describe(v->identity, &r->opt->identity_shown, &who);
    if (who.len) {
        fields[n++] = log_slice("who", strbuf_slice(&who));
    }
    refusal_count_denied(r->metrics, v->status);
    refusal_log(r, &r->denials, refusal_kind(r, v->status, v->reason), "denied", s, fields, n);
    strbuf_clear(&who);
    refusal_respond_denied(s, v);
}

void refuse_quota(struct refusals *r, struct stream *s, const struct quota_want *full)
{
    char reason[96];
    int n = snprintf(reason, sizeof reason, QUOTA_FULL_REASON, full->max);
    const struct verdict v = {
        .status = 429, .reason = slice_of(reason, (size_t)n), .retry_after_s = RETRY_AFTER_S};
    struct log_field fields[REFUSAL_FIELDS + 1] = {
        log_int("status", v.status),
        log_str("reason", reason),
        log_slice("key", full->key),
    };
    refusal_count_denied(r->metrics, v.status);
    refusal_log(r, &r->quotas, refusal_kind(r, v.status, full->key), "denied by a quota", s, fields,
                3);
    refusal_respond_denied(s, &v);
}

static void refusal_count_invalid(struct refusals *r, const struct stream *s, int status,
                                  struct slice why)
{
    struct log_field fields[REFUSAL_FIELDS] = {log_int("status", status), log_slice("why", why)};
    r->metrics->refused_invalid++;
    refusal_log(r, &r->invalid, refusal_kind(r, status, why), "refused request", s, fields, 2);
}

void refuse(struct refusals *r, struct stream *s, int status, struct slice detail)
{
    refusal_count_invalid(r, s, status, detail);
    refusal_respond(s, status, HTTP_ANSWER_FIELDS, detail);
}

void refuse_nothing_more(struct refusals *r, struct stream *s)
{
    struct http_response answer = {.status = 204, .fields = slice_str(HTTP_ANSWER_FIELDS)};
    r->metrics->nothing_more++;
    log_debug("broker", "nothing more to come", LOG_F(log_uint("stream", s->id)));
    (void)stream_respond(s, &answer); /* on failure the connection is closed: nothing more to do */
}

void refuse_method(struct refusals *r, struct stream *s, const char *allow)
{
    char field[256];
    char detail[160];
    snprintf(field, sizeof field, HTTP_ANSWER_FIELDS "Allow: %s\r\n", allow);
    snprintf(detail, sizeof detail, "this path serves %s", allow);
    refusal_count_invalid(r, s, 405, slice_str(detail));
    refusal_respond(s, 405, field, slice_str(detail));
}

/* ---------------------------------------------------------------- streams held open */

/* A client that waits before it reconnects loses nothing by a stream that ends some seconds late;
 * one that does not wait would be back at once, hundreds of times a second. These streams are
 * connections like others, and at most a quarter of all there may be: then the oldest ends early. */
struct held {
    struct refusals *all;
    struct stream *stream;
    struct list node; /* in r->held, oldest first */
    struct deadline end;
};

static void refusal_held_free(struct held *h)
{
    h->all->metrics->refusals_held--;
    list_del(&h->node);
    deadline_disarm(&h->end);
    free(h);
}

static void refusal_held_end(struct held *h, enum close_reason why)
{
    stream_set_owner(h->stream, NULL, NULL);
    stream_close(h->stream, why);
    refusal_held_free(h);
}

static void refusal_on_end(struct deadline *d)
{
    struct held *h = container_of(d, struct held, end);
    refusal_held_end(h, CLOSE_TRANSIENT);
}

static void refusal_on_closed(struct stream *s, enum close_reason why)
{
    (void)why;
    refusal_held_free(s->owner);
}

static void refusal_on_writable(struct stream *s)
{
    (void)s; /* nothing is queued */
}

static const struct stream_events held_events = {.writable = refusal_on_writable,
                                                 .closed = refusal_on_closed};

static void refusal_hold(struct refusals *r, struct stream *s)
{
    uint64_t most = r->server->opt.max_connections / 4;
    struct held *h = r->opt->refusal_hold_ms && most ? calloc(1, sizeof *h) : NULL;
    if (!h) {
        stream_close(s, CLOSE_TRANSIENT);
        return;
    }
    if (r->metrics->refusals_held >= most) {
        refusal_held_end(list_first(&r->held, struct held, node), CLOSE_TRANSIENT);
    }
    *h = (struct held){.all = r, .stream = s};
    list_init(&h->node);
    list_add_tail(&r->held, &h->node);
    deadline_init(&h->end);
    deadline_arm(loop_deadline_class(r->loop, r->opt->refusal_hold_ms, refusal_on_end), &h->end);
    r->metrics->refusals_held++;
    stream_set_owner(s, &held_events, h);
}

void refusals_end_held(struct refusals *r)
{
    while (!list_empty(&r->held)) {
        refusal_held_end(list_first(&r->held, struct held, node), CLOSE_DRAINING);
    }
}

/* ---------------------------------------------------------------- "try again" */

static void refusal_refuse_stream(struct refusals *r, struct stream *s, bool draining,
                                  const char *why)
{
    char comment[256];
    struct request_id id;
    unsigned ms = draining ? r->opt->drain_retry_ms : TRANSIENT_RETRY_MS;
    stream_request_id(s, &id);
    snprintf(comment, sizeof comment, "%s (request %s)", why,
             id.text); /* EventSource hides fields */
    struct sse_fields f = {.retry_ms = jitter_around(r->jitter, ms), .comment = slice_str(comment)};
    struct frame *frame = sse_frame(&f);
    struct http_response head = {.status = 200,
                                 .content_type = r->opt->content_type,
                                 .fields = slice_str(BROKER_STREAM_FIELDS)};
    int rc = stream_open(s, &head);
    if (rc == 0 && frame) {
        (void)stream_write_frame(s, frame); /* what a full socket does not take is no loss here */
    }
    if (rc == 0 && frame && !draining) {
        refusal_hold(r, s);
    } else {
        stream_close(s, draining ? CLOSE_DRAINING : CLOSE_TRANSIENT);
    }
    frame_unref(frame);
}

static void refusal_count_transient(struct broker_metrics *m, enum refusal_cause cause)
{
    switch (cause) {
    case REFUSAL_POLICY:
        m->refused_policy++;
        break;
    case REFUSAL_STORE:
        m->refused_store++;
        break;
    case REFUSAL_OVERLOAD:
        m->refused_overload++;
        break;
    case REFUSAL_DRAINING:
        m->refused_draining++;
        break;
    }
}

void refuse_transient(struct refusals *r, struct stream *s, bool sse, enum refusal_cause cause,
                      const char *why)
{
    int status = sse ? 200 : 503;
    struct log_field fields[REFUSAL_FIELDS] = {log_int("status", status), log_str("reason", why)};
    refusal_count_transient(r->metrics, cause);
    refusal_log(r, &r->transients, refusal_kind(r, status, slice_str(why)), "refused for now", s,
                fields, 2);
    char told[160]; /* clients get no more: it may be a secret */
    snprintf(told, sizeof told, "%s%s", why,
             cause == REFUSAL_POLICY ? "; the log of the broker says why" : "");
    if (sse) {
        refusal_refuse_stream(r, s, cause == REFUSAL_DRAINING, told);
        return;
    }
    char field[128];
    snprintf(field, sizeof field, HTTP_ANSWER_FIELDS "Retry-After: %d\r\n", RETRY_AFTER_S);
    refusal_respond(s, status, field, slice_str(told));
}
