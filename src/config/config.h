/* The settings of one process: read once, immutable, plain data.
 *
 * scripts/lib/config_schema.lua is the single source of names, types, ranges, defaults and docs;
 * this struct mirrors it, and loading fails if the two differ. Units are in the names. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/err.h"
#include "base/strbuf.h"
#include "policy/policy_setting.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config_strings {
    char **v;
    size_t n;
};

/* A certificate of a listener. Paths are absolute. */
struct config_certificate {
    struct config_strings names; /* none: those in the certificate */
    char *cert, *key;
};

/* Where clients connect. Paths are absolute. */
struct config_listener {
    char *address; /* "HOST:PORT", "[IPV6]:PORT", "unix:/path", "systemd:NAME" */
    struct {
        struct config_certificate *v;
        size_t n;
    } tls;                        /* none: plain HTTP */
    char *client;                 /* "none" | "optional" | "required": certificates of clients */
    char *client_ca, *client_crl; /* NULL: none */
    bool redirect_https, proxy_protocol;
};

/* A path of the public server beside its own. */
struct config_route {
    char *path;
    char *publish, *topic; /* NULL: no publishing; the topic of envelopes is in them */
    char *answer;          /* "json" | "id" | "empty" | "stream" */
    char *position_field;  /* NULL: none */
    int64_t status;        /* 0: as http.events_path answers */
    bool subscribe, delete;
};

/* A key set: one source is not NULL. Paths are absolute. */
struct config_keys {
    char *name;
    char *secret, *secret_file, *public_key_file, *jwks_file, *jwks_url;
    char *ca_file; /* of jwks_url */
    struct config_strings algorithms;
    int64_t refresh_s, stale_s;
};

/* A server that policies may call. */
struct config_http_target {
    char *name, *url;
    int64_t timeout_ms, max_response_bytes;
    struct config_strings headers; /* "Name: value", may be secret */
    char *ca_file;                 /* absolute; NULL: the system's authorities */
};

struct config_overrides;

struct config {
    struct {
        char *path;                               /* absolute; NULL: the defaults */
        const struct config_overrides *overrides; /* borrowed: the caller's */
    } source;                                     /* what it was read from */
    struct {
        struct config_listener *v;
        size_t n;
    } listen;
    char *admin;        /* as `address` of those, local only; NULL: no admin listener */
    char *admin_public; /* NULL: none */
    struct config_strings admin_identity;  /* fields of identities that operators may see */
    struct config_strings trusted_proxies; /* CIDR, address, or "unix" */
    int64_t workers;                       /* 0: one for each core */

    struct {
        bool compact;
    } tls;

    struct {
        char *events_path;
        char *content_type;
        char *health_path; /* NULL: none */
        bool h2;
        bool page, page_public; /* GET / serves the try-out page; to other machines */
        struct config_strings cors_origins, cors_headers, hosts, query_params, webhook_origins;
        bool cors_credentials;
        bool cross_site_publish;
        int64_t cors_max_age_s;
        struct {
            struct config_route *v;
            size_t n;
        } routes;
        int64_t https_port, hsts_s; /* the latter 0: not said */
        char *acme_webroot;         /* absolute; NULL: none */
    } http;

    struct {
        int64_t heartbeat_s, dead_peer_s, retry_ms, refusal_hold_s, turn_bytes, max_lag_events;
        int64_t snapshot_ms, position_s;
        char *on_lag; /* "close" | "skip" */
        char *gap_event, *revoked_event, *end_event, *live_event;
        char *prime; /* "event" | "id" | "data" | "none" */
        char *topic; /* "none" | "comment" | "event" */
        char *position_event;
        char *cloudevents_source;
    } sse;
    struct {
        bool gzip;
        int64_t min_members, bytes;
    } compress;

    struct {
        int64_t max_events, max_bytes, page_events, page_bytes, page_cache_bytes;
    } event_log;

    struct {
        char *driver;      /* "sqlite" | "postgres" */
        char *path;        /* absolute: resolved against the configuration file */
        char *synchronous; /* "full" | "normal" */
        int64_t poll_ms, busy_timeout_ms;
        int64_t max_queue_events, max_queue_bytes;
        int64_t retain_age_s, retain_events, retain_bytes; /* 0: no bound */
        int64_t key_window_s;
        char *conninfo; /* of "postgres": may hold a password, never shown; NULL: none */
        char *migrate;  /* "auto" | "manual" */
        int64_t history_connections, append_timeout_ms, outbox_poll_ms, batch_rows, partition_ids;
        int64_t upkeep_alarm_s;
        struct config_strings latest;
        int64_t latest_topics;
    } store;

    struct {
        char *driver;   /* "none" | "postgres" | "sqlite" */
        char *conninfo; /* of "postgres": may hold a password, never shown; else NULL */
        char *path;     /* of "sqlite", absolute; else NULL */
        int64_t connections, queue, timeout_ms, max_rows, max_bytes;
    } database; /* for queries of policies */

    struct {
        struct config_http_target *v; /* by name */
        size_t n;
    } http_targets;

    struct {
        char *file; /* absolute */
        char *auth; /* "policy" | "open": may `authenticate` be absent */
        bool allow_open_public;
        int64_t memory_bytes;
        int64_t topics, params_keys, params_bytes, identity_bytes, first_bytes;
        struct config_strings path; /* absolute */
        struct config_strings credential_params;
        struct {
            struct policy_setting *v; /* by name; files are absolute */
            size_t n;
        } settings;
        int64_t error_log_interval_s;
        int64_t token_cache_bytes;
        int64_t subscribe_timeout_ms, publish_timeout_ms;
        int64_t suspended, suspended_per_address, queued; /* the second 0: no cap */
        int64_t subscribe_cpu_ms, publish_cpu_ms, filter_cpu_ms, load_cpu_ms, hard_limit_ms;
        int64_t resubscribe_per_s, ask_again_per_s, resubscribe_timeout_s;
        int64_t warm_s, rollback_s; /* the latter 0: never */
        int64_t quota_streams, rate_keys;
        int64_t set_entries, set_bytes;
        bool watch, show_version;
    } policy;

    struct {
        int64_t bytes, value_bytes;
    } cache;

    struct {
        int64_t grace_s, lease_s, members, data_bytes;
    } presence;

    struct {
        struct config_keys *v;
        size_t n;
    } keys;

    struct {
        int64_t max_connections, max_connections_per_address; /* the latter 0: no cap, -1: "auto" */
        int64_t new_connections_per_address_per_s;            /* 0: no bound, -1: "auto" */
        int64_t publishes_per_address_per_s;                  /* 0: no bound */
        int64_t h2_streams;
        int64_t target_bytes, head_bytes, headers, body_bytes;
        int64_t bodies_bytes, bodies_bytes_per_address; /* 0: no bound */
        int64_t event_bytes, batch_events, pages_at_once, unread_page_bytes;
        int64_t head_timeout_s, body_timeout_s, idle_timeout_s;
        int64_t pipeline;
        int64_t send_buffer_bytes;
    } limits;

    struct {
        int64_t timeout_s, retry_ms;
    } drain;

    struct {
        char *level;
        char *format;
    } log;
};

/* Settings that the command line may override; NULL or 0: not given. Relative paths are relative to
 * the working directory. */
struct config_overrides {
    const char *const *listen; /* replaces the whole list */
    size_t listen_count;
    const char *admin; /* "none": no admin listener */
    const char *store; /* directory, or a connection string of PostgreSQL */
    const char *policy;
    const char *workers;
    const char *const *settings; /* "name=value": added to those of the file, or instead of them */
    size_t setting_count;
};

/* Reads, checks and normalises `path`; NULL: the defaults, for tools that need no file. On failure
 * `problems` holds all problems, one per line: "FILE:LINE: dotted.path: what is wrong, what was expected"
 * (or "--option: ..."); nothing is left to free. UV_EINVAL: the file, or an option, is wrong. Any other
 * code: the program has a defect, or memory is short. `o` may be NULL. */
int config_load(struct config *out, const char *path, const struct config_overrides *o,
                struct strbuf *problems);
/* The same. After UV_EINVAL `out` may hold what is right of the file all the same, for those who look at
 * the rest of it: then *salvaged is true, and `out` is to be cleared. Defaults stand for what is wrong;
 * `policy.file` is "" where it is not known. Such settings are not for a broker. */
int config_salvage(struct config *out, const char *path, const struct config_overrides *o,
                   struct strbuf *problems, bool *salvaged);
/* Reads it again, as it was read before: for the settings of policies. */
int config_load_again(struct config *out, const struct config *before, struct strbuf *problems);
/* The environment variables that count with these options, which come before them: TIDEGATE_LISTEN (several
 * with commas between), TIDEGATE_ADMIN, TIDEGATE_ADMIN_PUBLIC, TIDEGATE_STORE, TIDEGATE_POLICY. Their number. */
enum { CONFIG_ENVIRONMENT_MAX = 5 };
size_t config_environment(const struct config_overrides *o,
                          const char *names[CONFIG_ENVIRONMENT_MAX]);
void config_clear(struct config *c);
/* The reference of every key as Markdown, generated from the schema. */
int config_reference(struct strbuf *out);

#endif
