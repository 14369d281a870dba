/* CONTRACT: what the broker needs decided, in C types only. lua/policy/lua_policy.c implements it;
 * specs may bring a fake.
 *
 * Everything fails closed: whatever goes wrong inside is a VERDICT_TRANSIENT for a gate, `false`
 * for a filter and FORMAT_FAILED for a format; the implementation has logged and counted it. */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strbuf.h"
#include "event/event.h"
#include "event/position.h"
#include "net/address.h"
#include "net/close_reason.h"
#include "net/message/http_query.h"
#include "net/message/http_request.h"
#include "net/message/request_id.h"
#include "policy/policy_setting.h"
#include "quota/quota_want.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* How much a hook may return for one connection: what the broker then keeps. */
struct policy_limits {
    size_t topics;         /* of a subscription */
    size_t params_keys;    /* of its params */
    size_t params_bytes;   /* of its params as canonical JSON */
    size_t identity_bytes; /* of an identity as canonical JSON */
    size_t first_bytes;    /* of `first` of a subscription, as frames */
    size_t presence_bytes; /* of the data of `presence`, as JSON */
};

/* A request as the policy sees it. Borrowed for the call: the policy copies what it keeps. */
struct policy_request {
    uint64_t id;                     /* of its stream */
    struct slice request_id;         /* in log lines; absent: `id` in digits (tools) */
    const struct http_request *http; /* NULL: what was kept of an earlier request */
    const struct http_query *query;
    struct peer_address client; /* see client_address() */
    struct slice last_event_id; /* as given; absent: none */
    struct slice mark;          /* of that; of an open stream, its own; absent: none */
    struct slice path;          /* of a kept one; others have it in `http` */
    const struct http_query
        *params; /* what the path has for the names of its route; NULL: nothing */
    /* JSON, {topic, type, key, attrs}: the event that the request publishes, where its answer is a stream; absent:
     * it publishes none. `unanswered`: it is being judged, so that it may be answered without a stream. */
    struct slice published;
    bool unanswered;
    /* The identity (JSON) to start from, where authenticate is not to be asked: tools only. */
    struct slice who;
    /* publish: what authenticate() granted this request before; absent: it is asked now. */
    struct slice identity;
    /* publish: makes the events once authenticate has let the request pass; NULL: they are given. Called
     * with the callback's ctx and the token. 0, or the status to refuse with: then the verdict is a
     * denial with it, without a reason. */
    int (*events)(void *ctx, uint64_t token, struct event_list *out);
};

/* Of a subscription. */
enum { POLICY_TAGS_MAX = 8, POLICY_TAG_MAX_BYTES = 64, POLICY_FIELDS_MAX_BYTES = 2048 };

enum on_lag { ON_LAG_DEFAULT, ON_LAG_CLOSE, ON_LAG_SKIP, ON_LAG_LATEST };

/* Where a stream begins whose client has no position. */
enum grant_start { GRANT_NOW, GRANT_EARLIEST, GRANT_LATEST, GRANT_AFTER };

/* How much history a stream may have. All zero: all. What is hidden is no gap. */
struct replay_rules {
    bool none;           /* replay = false: starts at the head whatever was asked */
    bool no_gap;         /* what retention has removed is not announced either */
    unsigned last;       /* the newest of its events; 0: no bound */
    uint64_t max_age_ms; /* 0: no bound */
    int64_t since_ms;    /* Unix time; 0: no bound */
};
enum { POLICY_REPLAY_LAST_MAX = 1000 };

/* What the `subscribe` hook granted, validated. Strings are borrowed with the verdict. */
struct subscription {
    const struct slice *topics; /* valid patterns, sorted, unique; at least one */
    size_t topic_count;
    struct slice filter; /* absent: every event of the topics */
    struct slice format; /* absent or "raw": the data as published; "json": the envelope;
                            "cloudevents" */
    struct slice params; /* canonical JSON object; absent: none */
    struct slice ends;   /* a filter: a stream that was given an event of it ends; absent: none */
    enum grant_start start;
    uint64_t start_after; /* the id, of GRANT_AFTER */
    bool envelope;        /* data is the JSON object of id, topic, ... with the data in it */
    uint32_t every_ms;    /* of each such interval the newest event of each topic; 0: all */
    struct slice mark;    /* that the ids are told with; absent: none */
    struct replay_rules replay;
    /* per connection: not part of the audience */
    int without_stream;  /* a status: the request published, and is answered with it; else 0 */
    struct slice fields; /* of the head of the answer, "Name: value\r\n" each; absent: none */
    struct slice names;  /* theirs, with ", " between */
    struct slice first;  /* frames that the stream begins with; absent: none */
    double events_per_s; /* 0: no bound */
    uint64_t max_lag;    /* events behind the head; 0: the configuration's */
    enum on_lag on_lag;
    unsigned heartbeat_s;     /* 0: the configuration's */
    unsigned retry_ms;        /* 0: the configuration's */
    enum prime prime;         /* how its position is sent */
    bool no_gzip;             /* whatever the client takes */
    int64_t expires_ms;       /* Unix time at which the policy is asked again; 0: never */
    const struct slice *tags; /* by which it can be reached later; unique */
    size_t tag_count;
    const struct quota_want *quotas; /* what it counts for; at most QUOTAS_PER_STREAM */
    size_t quota_count;
    struct slice presence;      /* the topic of the member whose stream it is; absent: nobody's */
    struct slice presence_data; /* of the member, JSON */
};

enum verdict_kind {
    VERDICT_ALLOW,
    VERDICT_DENY,      /* status 204 400 401 403 404 429: the client must not come back unchanged */
    VERDICT_TRANSIENT, /* the client should try again */
};

struct verdict {
    enum verdict_kind kind;
    int status;             /* of a denial */
    unsigned retry_after_s; /* of a denial: when the same may be allowed; 0: not said */
    const char
        *hook;   /* of a denial: which decided; static. NULL: none, see policy_request.events */
    bool failed; /* a transient: the policy did not ask for it, it went wrong */
    struct slice reason;   /* of a denial: shown to the client. Of a transient: logged, not shown */
    struct slice identity; /* canonical JSON object of scalars */
    int64_t expires_ms;    /* Unix time at which the identity ends; 0: never */
    struct subscription subscription; /* of an allowed subscribe */
};

/* `v` is borrowed for the call. Called exactly once per accepted question that was not cancelled,
 * from the flush step, with the `token` that was given; the asker may be gone by then and looks
 * itself up by token. */
typedef void (*policy_verdict_cb)(void *ctx, uint64_t token, const struct verdict *v);
/* What a policy has made of an event that a client wants to publish. */
struct publication_made {
    size_t first;        /* the index of the first event made of it */
    const char *dropped; /* or why it is stored in no form; NULL: it is stored */
};

/* As above. On VERDICT_ALLOW `events` holds what to store instead of what was asked, in order, and
 * made[i] (count asked) says what became of asked event i. The callee may take
 * the list's references by emptying it; the rest is released. */
typedef void (*policy_publish_cb)(void *ctx, uint64_t token, const struct verdict *v,
                                  struct event_list *events, const struct publication_made *made);

struct filter_args;

/* What the names of a subscription resolve to in one policy; opaque to the broker but for `text`.
 */
struct policy_binding {
    int filter; /* < 0: none */
    int format; /* < 0: built in, POLICY_FORMAT_* */
    int params; /* < 0: none */
    struct filter_args
        *text;         /* of a filter that is text: plain C, cheap, without effects; or NULL */
    int ends;          /* a filter, as above; < 0: none */
    bool envelope;     /* what the format makes is put into one */
    struct slice mark; /* that of the subscription, borrowed */
    struct filter_args *ends_text;
};
enum {
    POLICY_NONE = -1,
    POLICY_FORMAT_RAW = -1,
    POLICY_FORMAT_JSON = -2,
    POLICY_FORMAT_CLOUDEVENTS = -3
};

/* Most ways in which a result of a format may be found again. */
enum { POLICY_FORMAT_KEYS_MAX = 8 };

/* Until a policy is ready: first all its sets are loaded, then its setup runs, waiting included. */
enum {
    POLICY_SETS_TIMEOUT_MS = 60000,
    POLICY_SETUP_TIMEOUT_MS = 60000,
    POLICY_READY_TIMEOUT_MS = POLICY_SETS_TIMEOUT_MS + POLICY_SETUP_TIMEOUT_MS,
};

enum format_result {
    FORMAT_DELIVER,
    FORMAT_SKIP,
    FORMAT_FAILED,   /* an error of the format, or more than it may use */
    FORMAT_NO_MEMORY /* rules, and what is built in, short of the machine's memory: nothing is
                        decided, the stream is to come back for the event; not logged */
};
/* Of rules, and what is built in, by what became of their bytes (0 or UV_E*). */
static inline enum format_result format_result_of(int rc)
{
    return rc == 0 ? FORMAT_DELIVER : rc == UV_ENOMEM ? FORMAT_NO_MEMORY : FORMAT_FAILED;
}

/* Filled by a format; the buffers are the caller's, initialised with their caps. */
struct formatted {
    struct strbuf data;
    struct strbuf event; /* empty: the event's own type */
    uint64_t key; /* whatever came of it holds for this event wherever format_keys() names it; 0:
                     not to be remembered. Never used again for anything else by this policy. */
    struct slice source; /* given: of CloudEvents that are made of events that are none */
};

/* How a filter or a format came to what it decided, for people. The buffers are the caller's,
 * initialised with their caps. */
struct policy_account {
    bool asked;          /* it has been run (or is built in) */
    bool failed;         /* an error, stopped, or out of use */
    const char *kind;    /* "text", "function", "rules", "built-in"; NULL: the audience has none */
    char where[128];     /* "geo.lua:14": the line that failed, else its definition; may be empty */
    bool out_of_use;     /* failed too often: not run any more */
    struct strbuf lines; /* of a text: its conditions with the values seen, each a line */
    struct strbuf why;   /* what a filter returned beside false, or the error; UTF-8 */
    bool cut;            /* there was more than fits */
};

struct disconnect_info {
    enum close_reason reason;
    double seconds;
    uint64_t delivered;
};

/* What becomes of open streams when a policy takes the place of another. */
enum reload_mode {
    RELOAD_RESUBSCRIBE, /* they are asked about again, one by one */
    RELOAD_KEEP,        /* they stay with what they were granted */
    RELOAD_RECONNECT,   /* they are sent away and come back */
};

enum policy_stage {
    POLICY_DRY_RUN, /* on questions of the past: what goes wrong is not logged, and counted
                       in its figures only until the next stage */
    POLICY_LIVE,    /* in force */
    POLICY_RETIRED, /* answers what it was asked before */
};

struct policy_figures {
    uint64_t calls, errors; /* of all its functions, since it was opened */
    const char *last_error; /* "subscribe: p.lua:3: ..."; borrowed until the next call */
};

/* rc 0: ready. Else `e` says why not. Once, from the flush step. */
typedef void (*policy_ready_cb)(void *ctx, int rc, const struct err *e);

struct policy;

/* The gates: one question for one request, answered later. */
struct policy_gates {
    /* authenticate, then subscribe. */
    void (*subscribe)(struct policy *p, const struct policy_request *rq, policy_verdict_cb cb,
                      void *ctx, uint64_t token);
    /* subscribe alone: again, for what was kept of a request and the identity it was granted, or of a request
     * that publishes, before that is stored (`unanswered`). */
    void (*resubscribe)(struct policy *p, const struct policy_request *rq, struct slice identity,
                        policy_verdict_cb cb, void *ctx, uint64_t token);
    /* authenticate alone, for a publish of which only the head is there. Denies where there is no
     * publish hook, too. VERDICT_ALLOW has the identity. */
    void (*authenticate)(struct policy *p, const struct policy_request *rq, policy_verdict_cb cb,
                         void *ctx, uint64_t token);
    /* authenticate, then publish for each event; of no event, authenticate alone. Takes the
     * references in `asked` and empties it. */
    void (*publish)(struct policy *p, const struct policy_request *rq, struct event_list *asked,
                    policy_publish_cb cb, void *ctx, uint64_t token);
    /* The asker of `token` (not 0) is gone: hooks that still wait on its behalf are given up. Its
     * answer may come all the same if it was decided already. Unknown tokens are fine. */
    void (*cancel)(struct policy *p, uint64_t token);
    /* After a stream closed; low priority. `identity` is borrowed. */
    void (*disconnected)(struct policy *p, struct slice identity,
                         const struct disconnect_info *info);
    bool (*wants_disconnect)(const struct policy *p); /* is there such a hook at all */
};

/* The hot path: what an audience is, and what it gets of each event. Answered at once. */
struct policy_rules {
    /* Resolves names and anchors params, once per audience. 0, or a negative UV_E*. */
    int (*bind)(struct policy *p, const struct subscription *s, struct policy_binding *out);
    void (*unbind)(struct policy *p, struct policy_binding *b);
    /* Filter and format decide about one event. Who gets it, who tries a policy out and who explains
     * a delivery all ask here. `account`: NULL, or filled, for people: then nothing is counted,
     * logged, or held against the function, so that delivery is not affected. */
    bool (*filter)(struct policy *p, const struct policy_binding *b, struct event *ev,
                   struct policy_account *account);
    /* Does the stream of whoever was given that event end? Asked like the filter. An error is no. */
    bool (*ends)(struct policy *p, const struct policy_binding *b, struct event *ev,
                 struct policy_account *account);
    enum format_result (*format)(struct policy *p, const struct policy_binding *b, struct event *ev,
                                 struct formatted *out, struct policy_account *account);
    /* Keys under which results of the format may have been remembered that hold for this audience,
     * too. Returns how many. */
    size_t (*format_keys)(struct policy *p, const struct policy_binding *b,
                          uint64_t keys[POLICY_FORMAT_KEYS_MAX]);
};

/* Reaching open streams: what observe orders for one event. */
enum policy_effect_kind { POLICY_ASK_AGAIN, POLICY_END_STREAMS };
enum { POLICY_EFFECTS_MAX = 1000, POLICY_END_REASON_MAX_BYTES = 256 };
struct policy_effect {
    enum policy_effect_kind kind;
    unsigned tag_n, reason_n;
    char tag[POLICY_TAG_MAX_BYTES];
    char reason[POLICY_END_REASON_MAX_BYTES]; /* of an end: for the clients */
};
struct policy_effects {
    struct policy_effect *v; /* owned */
    size_t n, cap;
    size_t forgotten; /* keys of the cache, for people: that has happened */
};
void policy_effects_init(struct policy_effects *x);
void policy_effects_clear(struct policy_effects *x);
/* False: there are POLICY_EFFECTS_MAX. The texts are short enough. */
bool policy_effects_add(struct policy_effects *x, enum policy_effect_kind kind, struct slice tag,
                        struct slice reason);

/* Answered at once, from the tail. */
struct policy_reach {
    bool (*observes)(const struct policy *p, struct slice topic);
    /* Negative: something of it failed; `out` has what was ordered all the same. */
    int (*observe)(struct policy *p, struct event *ev, struct policy_effects *out);
};

/* The life of one of several: opened, set up, tried, live, retired, closed. */
struct policy_life {
    void (*setup)(struct policy *p, const char *previous, policy_ready_cb cb, void *ctx);
    int (*reloaded)(struct policy *p, const char *previous, enum reload_mode *out, struct err *e);
    void (*set_stage)(struct policy *p, enum policy_stage stage);
    void (*figures)(const struct policy *p, struct policy_figures *out);
    bool (*busy)(const struct policy *p); /* hooks of it wait for something */
    /* What still waits is answered VERDICT_TRANSIENT, from the next flush step; a preparation that
     * waits is not. */
    void (*close)(struct policy *p);
};

/* "0123456789ab": enough to tell policies apart, short enough to read aloud. */
enum { POLICY_VERSION_BYTES = 13 };

struct policy {
    const struct policy_gates *gates;
    const struct policy_rules *rules;
    const struct policy_life *life;
    const struct policy_reach *reach; /* NULL: it observes nothing */
    const char *version;              /* of everything it consists of, for people; never NULL */
    const char *label;                /* what its author calls it; NULL: none */
    const struct policy_declared *settings; /* that it has declared */
    size_t setting_count;
};

#endif
