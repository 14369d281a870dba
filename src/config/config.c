/* The struct's side of the configuration: where each setting lives, checks that need C, paths, and
 * what the command line overrides. Names, types, ranges and defaults are in
 * scripts/lib/config_schema.lua; running the file is config/lua_config.c. */
#include "config/config.h"

#include "base/alloc.h"
#include "base/program/embedded.h"
#include "base/require.h"
#include "config/config_listen.h"
#include "config/lua_config.h"
#include "net/address.h"
#include "net/client/http_client.h"
#include "pg/pg_conninfo.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define KEY(path_, type_, member)                                                                  \
    {                                                                                              \
        .path = (path_), .type = (type_), .offset = offsetof(struct config, member)                \
    }
#define INTEGER(section, name) KEY(#section "." #name, LUA_CONFIG_INTEGER, section.name)
#define BOOLEAN(section, name) KEY(#section "." #name, LUA_CONFIG_BOOLEAN, section.name)
#define TEXT(section, name) KEY(#section "." #name, LUA_CONFIG_TEXT, section.name)
#define LIST(path_, member)                                                                        \
    {                                                                                              \
        .path = (path_), .type = LUA_CONFIG_LIST, .offset = offsetof(struct config, member.v),     \
        .count_offset = offsetof(struct config, member.n)                                          \
    }

/* Of an entry of a map or array. */
#define FIELD(type_, name, kind)                                                                   \
    {                                                                                              \
        .path = #name, .type = (kind), .offset = offsetof(type_, name)                             \
    }
#define FIELD_OF_MANY(type_, name, kind, entry_)                                                   \
    {                                                                                              \
        .path = #name, .type = (kind), .offset = offsetof(type_, name.v),                          \
        .count_offset = offsetof(type_, name.n), .entry = (entry_)                                 \
    }

static const struct lua_config_key keys_fields[] = {
    FIELD(struct config_keys, secret, LUA_CONFIG_TEXT),
    FIELD(struct config_keys, secret_file, LUA_CONFIG_TEXT),
    FIELD(struct config_keys, public_key_file, LUA_CONFIG_TEXT),
    FIELD(struct config_keys, jwks_file, LUA_CONFIG_TEXT),
    FIELD(struct config_keys, jwks_url, LUA_CONFIG_TEXT),
    FIELD(struct config_keys, ca_file, LUA_CONFIG_TEXT),
    FIELD_OF_MANY(struct config_keys, algorithms, LUA_CONFIG_LIST, NULL),
    FIELD(struct config_keys, refresh_s, LUA_CONFIG_INTEGER),
    FIELD(struct config_keys, stale_s, LUA_CONFIG_INTEGER),
};

static const struct lua_config_entry keys_entry = {
    .size = sizeof(struct config_keys),
    .name_offset = offsetof(struct config_keys, name),
    .keys = keys_fields,
    .key_count = sizeof keys_fields / sizeof *keys_fields,
};

static const struct lua_config_key certificate_keys[] = {
    FIELD_OF_MANY(struct config_certificate, names, LUA_CONFIG_LIST, NULL),
    FIELD(struct config_certificate, cert, LUA_CONFIG_TEXT),
    FIELD(struct config_certificate, key, LUA_CONFIG_TEXT),
};

static const struct lua_config_entry certificate = {
    .size = sizeof(struct config_certificate),
    .keys = certificate_keys,
    .key_count = sizeof certificate_keys / sizeof *certificate_keys,
};

static const struct lua_config_key listener_keys[] = {
    FIELD(struct config_listener, address, LUA_CONFIG_TEXT),
    FIELD_OF_MANY(struct config_listener, tls, LUA_CONFIG_ARRAY, &certificate),
    FIELD(struct config_listener, client, LUA_CONFIG_TEXT),
    FIELD(struct config_listener, client_ca, LUA_CONFIG_TEXT),
    FIELD(struct config_listener, client_crl, LUA_CONFIG_TEXT),
    FIELD(struct config_listener, redirect_https, LUA_CONFIG_BOOLEAN),
    FIELD(struct config_listener, proxy_protocol, LUA_CONFIG_BOOLEAN),
};

static const struct lua_config_entry listener = {
    .size = sizeof(struct config_listener),
    .keys = listener_keys,
    .key_count = sizeof listener_keys / sizeof *listener_keys,
};

static const struct lua_config_key route_keys[] = {
    FIELD(struct config_route, path, LUA_CONFIG_TEXT),
    FIELD(struct config_route, subscribe, LUA_CONFIG_BOOLEAN),
    FIELD(struct config_route, position_field, LUA_CONFIG_TEXT),
    FIELD(struct config_route, delete, LUA_CONFIG_BOOLEAN),
    FIELD(struct config_route, publish, LUA_CONFIG_TEXT),
    FIELD(struct config_route, topic, LUA_CONFIG_TEXT),
    FIELD(struct config_route, answer, LUA_CONFIG_TEXT),
    FIELD(struct config_route, status, LUA_CONFIG_INTEGER),
};

static const struct lua_config_entry route = {
    .size = sizeof(struct config_route),
    .keys = route_keys,
    .key_count = sizeof route_keys / sizeof *route_keys,
};

static const struct lua_config_key http_target_keys[] = {
    FIELD(struct config_http_target, url, LUA_CONFIG_TEXT),
    FIELD(struct config_http_target, timeout_ms, LUA_CONFIG_INTEGER),
    FIELD(struct config_http_target, max_response_bytes, LUA_CONFIG_INTEGER),
    FIELD_OF_MANY(struct config_http_target, headers, LUA_CONFIG_LIST, NULL),
    FIELD(struct config_http_target, ca_file, LUA_CONFIG_TEXT),
};

static const struct lua_config_entry http_target = {
    .size = sizeof(struct config_http_target),
    .name_offset = offsetof(struct config_http_target, name),
    .keys = http_target_keys,
    .key_count = sizeof http_target_keys / sizeof *http_target_keys,
};

static const struct lua_config_key setting_keys[] = {
    FIELD(struct policy_setting, type, LUA_CONFIG_TEXT),
    FIELD(struct policy_setting, text, LUA_CONFIG_TEXT),
    FIELD_OF_MANY(struct policy_setting, items, LUA_CONFIG_LIST, NULL),
};

static const struct lua_config_entry setting = {
    .size = sizeof(struct policy_setting),
    .name_offset = offsetof(struct policy_setting, name),
    .keys = setting_keys,
    .key_count = sizeof setting_keys / sizeof *setting_keys,
};

static const struct lua_config_key keys[] = {
    {.path = "listen",
     .type = LUA_CONFIG_ARRAY,
     .offset = offsetof(struct config, listen.v),
     .count_offset = offsetof(struct config, listen.n),
     .entry = &listener},
    KEY("admin", LUA_CONFIG_TEXT, admin),
    KEY("admin_public", LUA_CONFIG_TEXT, admin_public),
    LIST("admin_identity", admin_identity),
    LIST("trusted_proxies", trusted_proxies),
    KEY("workers", LUA_CONFIG_INTEGER, workers),

    BOOLEAN(tls, compact),

    TEXT(http, events_path),
    TEXT(http, content_type),
    BOOLEAN(http, h2),
    BOOLEAN(http, page),
    BOOLEAN(http, page_public),
    TEXT(http, health_path),
    {.path = "http.routes",
     .type = LUA_CONFIG_ARRAY,
     .offset = offsetof(struct config, http.routes.v),
     .count_offset = offsetof(struct config, http.routes.n),
     .entry = &route},
    LIST("http.query_params", http.query_params),
    LIST("http.cors_origins", http.cors_origins),
    LIST("http.webhook_origins", http.webhook_origins),
    LIST("http.cors_headers", http.cors_headers),
    LIST("http.hosts", http.hosts),
    BOOLEAN(http, cors_credentials),
    BOOLEAN(http, cross_site_publish),
    INTEGER(http, cors_max_age_s),
    INTEGER(http, https_port),
    INTEGER(http, hsts_s),
    TEXT(http, acme_webroot),

    INTEGER(sse, heartbeat_s),
    INTEGER(sse, dead_peer_s),
    INTEGER(sse, retry_ms),
    INTEGER(sse, refusal_hold_s),
    INTEGER(sse, turn_bytes),
    INTEGER(sse, max_lag_events),
    TEXT(sse, on_lag),
    TEXT(sse, gap_event),
    TEXT(sse, live_event),
    TEXT(sse, revoked_event),
    TEXT(sse, end_event),
    TEXT(sse, prime),
    TEXT(sse, topic),
    TEXT(sse, position_event),
    TEXT(sse, cloudevents_source),
    INTEGER(sse, snapshot_ms),
    INTEGER(sse, position_s),
    BOOLEAN(compress, gzip),
    INTEGER(compress, min_members),
    INTEGER(compress, bytes),

    INTEGER(event_log, max_events),
    INTEGER(event_log, max_bytes),
    INTEGER(event_log, page_events),
    INTEGER(event_log, page_bytes),
    INTEGER(event_log, page_cache_bytes),

    TEXT(store, driver),
    TEXT(store, path),
    TEXT(store, synchronous),
    INTEGER(store, poll_ms),
    INTEGER(store, busy_timeout_ms),
    INTEGER(store, max_queue_events),
    INTEGER(store, max_queue_bytes),
    INTEGER(store, retain_age_s),
    INTEGER(store, retain_events),
    INTEGER(store, retain_bytes),
    INTEGER(store, key_window_s),
    LIST("store.latest", store.latest),
    INTEGER(store, latest_topics),
    TEXT(store, conninfo),
    TEXT(store, migrate),
    INTEGER(store, history_connections),
    INTEGER(store, outbox_poll_ms),
    INTEGER(store, append_timeout_ms),
    INTEGER(store, batch_rows),
    INTEGER(store, partition_ids),
    INTEGER(store, upkeep_alarm_s),

    TEXT(database, driver),
    TEXT(database, conninfo),
    TEXT(database, path),
    INTEGER(database, connections),
    INTEGER(database, queue),
    INTEGER(database, timeout_ms),
    INTEGER(database, max_rows),
    INTEGER(database, max_bytes),

    {.path = "http_targets",
     .type = LUA_CONFIG_MAP,
     .offset = offsetof(struct config, http_targets.v),
     .count_offset = offsetof(struct config, http_targets.n),
     .entry = &http_target},

    TEXT(policy, file),
    LIST("policy.path", policy.path),
    {.path = "policy.settings",
     .type = LUA_CONFIG_MAP,
     .offset = offsetof(struct config, policy.settings.v),
     .count_offset = offsetof(struct config, policy.settings.n),
     .entry = &setting},
    TEXT(policy, auth),
    BOOLEAN(policy, allow_open_public),
    INTEGER(policy, memory_bytes),
    INTEGER(policy, topics),
    INTEGER(policy, params_keys),
    INTEGER(policy, params_bytes),
    INTEGER(policy, identity_bytes),
    INTEGER(policy, first_bytes),
    LIST("policy.credential_params", policy.credential_params),
    INTEGER(policy, error_log_interval_s),
    INTEGER(policy, token_cache_bytes),
    INTEGER(policy, subscribe_timeout_ms),
    INTEGER(policy, publish_timeout_ms),
    INTEGER(policy, suspended),
    INTEGER(policy, suspended_per_address),
    INTEGER(policy, queued),
    INTEGER(policy, subscribe_cpu_ms),
    INTEGER(policy, publish_cpu_ms),
    INTEGER(policy, filter_cpu_ms),
    INTEGER(policy, load_cpu_ms),
    INTEGER(policy, hard_limit_ms),
    BOOLEAN(policy, watch),
    BOOLEAN(policy, show_version),
    INTEGER(policy, warm_s),
    INTEGER(policy, rollback_s),
    INTEGER(policy, quota_streams),
    INTEGER(policy, rate_keys),
    INTEGER(policy, set_entries),
    INTEGER(policy, set_bytes),
    INTEGER(policy, resubscribe_per_s),
    INTEGER(policy, ask_again_per_s),
    INTEGER(policy, resubscribe_timeout_s),

    INTEGER(cache, bytes),
    INTEGER(cache, value_bytes),
    INTEGER(presence, grace_s),
    INTEGER(presence, lease_s),
    INTEGER(presence, members),
    INTEGER(presence, data_bytes),

    {.path = "keys",
     .type = LUA_CONFIG_MAP,
     .offset = offsetof(struct config, keys.v),
     .count_offset = offsetof(struct config, keys.n),
     .entry = &keys_entry},

    INTEGER(limits, max_connections),
    INTEGER(limits, max_connections_per_address),
    INTEGER(limits, new_connections_per_address_per_s),
    INTEGER(limits, publishes_per_address_per_s),
    INTEGER(limits, h2_streams),
    INTEGER(limits, target_bytes),
    INTEGER(limits, head_bytes),
    INTEGER(limits, headers),
    INTEGER(limits, body_bytes),
    INTEGER(limits, bodies_bytes),
    INTEGER(limits, bodies_bytes_per_address),
    INTEGER(limits, event_bytes),
    INTEGER(limits, batch_events),
    INTEGER(limits, pages_at_once),
    INTEGER(limits, unread_page_bytes),
    INTEGER(limits, head_timeout_s),
    INTEGER(limits, body_timeout_s),
    INTEGER(limits, idle_timeout_s),
    INTEGER(limits, pipeline),
    INTEGER(limits, send_buffer_bytes),

    INTEGER(drain, timeout_s),
    INTEGER(drain, retry_ms),

    TEXT(log, level),
    TEXT(log, format),
};

/* ---------------------------------------------------------------- checks the schema names */

static int check_address(const char *text, struct err *e)
{
    struct address a;
    return address_parse(text, &a, e);
}

static int check_local_address(const char *text, struct err *e)
{
    struct address a;
    int rc = address_parse(text, &a, e);
    if (rc == 0 && a.by_name) {
        rc = err_set(e, UV_EINVAL,
                     "\"%s\": expected the address that socket listens on: that is how it is known",
                     text);
    } else if (rc == 0 && !address_is_local(&a)) {
        rc = err_set(e, UV_EADDRNOTAVAIL,
                     "\"%s\" can be reached from other machines: expected a loopback address or a "
                     "Unix socket",
                     text);
    }
    return rc;
}

static int check_network(const char *text, struct err *e)
{
    struct network n;
    return network_parse(text, &n, e);
}

static int check_conninfo(const char *text, struct err *e)
{
    struct pg_conninfo c;
    int rc = pg_conninfo_parse(&c, text, e);
    if (rc == 0) {
        pg_conninfo_clear(&c);
    }
    return rc;
}

/* Who can change what is read from there can make tokens: only this machine may be asked without
 * TLS. */
static int check_jwks_url(const char *text, struct err *e)
{
    int rc = http_client_check_url(text, e);
    if (rc || strncasecmp(text, "https://", 8) == 0) {
        return rc;
    }
    const char *host = text + strlen("http://");
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?");
    struct slice name = slice_of(host, n);
    bool here = slice_is(name, "[::1]") || slice_is_nocase(name, "localhost");
    if (!here && strncmp(host, "127.", 4) == 0) {
        char v4[16];
        struct in_addr addr;
        snprintf(v4, sizeof v4, "%.*s", (int)(n < 15 ? n : 15), host);
        here = n <= 15 && inet_pton(AF_INET, v4, &addr) == 1;
    }
    return here ? 0
                : err_set(e, UV_EINVAL,
                          "expected https: keys may come over http only from this machine");
}

static int check_http_url(const char *text, struct err *e)
{
    int rc = http_client_check_url(text, e);
    if (rc == 0 && strchr(text, '?')) {
        rc = err_set(e, UV_EINVAL, "has a query: policies add theirs");
    }
    return rc;
}

static int check_http_header(const char *text, struct err *e)
{
    struct http_client_header h = http_client_split_header(text);
    return h.name.p ? http_client_check_header(&h, e)
                    : err_set(e, UV_EINVAL, "expected \"Name: value\"");
}

static struct lua_config_spec make_spec(void)
{
    static const struct lua_config_format formats[] = {
        {"address", check_address},         {"local_address", check_local_address},
        {"network", check_network},         {"conninfo", check_conninfo},
        {"jwks_url", check_jwks_url},       {"http_url", check_http_url},
        {"http_header", check_http_header}, {NULL, NULL}};
    static const char defaults[] = "return { listen = { '127.0.0.1:0' }, admin = false,\n"
                                   "         policy = { file = 'policy.lua' } }\n";
    const struct embedded *schema = embedded_find("scripts/lib/config_schema.lua");
    REQUIRE(schema);
    return (struct lua_config_spec){.schema = slice_of(schema->data, schema->size),
                                    .keys = keys,
                                    .key_count = sizeof keys / sizeof *keys,
                                    .formats = formats,
                                    .defaults = slice_str(defaults)};
}

/* ---------------------------------------------------------------- paths */

/* Joins a relative `path` to `base`, a canonical directory, hence "../" at the start is its parent
 * in text as well as on the disk. Takes *path and replaces it. */
static int make_absolute(char **path, const char *base)
{
    const char *rest = *path;
    size_t base_len = strlen(base);
    if (*rest == '/') {
        return 0;
    }
    for (;;) {
        if (strncmp(rest, "./", 2) == 0) {
            rest += 2;
        } else if (strncmp(rest, "../", 3) == 0 || strcmp(rest, "..") == 0) {
            rest += rest[2] ? 3 : 2;
            while (base_len > 0 && base[--base_len] != '/') {
            }
        } else {
            break;
        }
        while (*rest == '/') {
            rest++;
        }
    }
    if (base_len == 1) {
        base_len = 0; /* "/": the slash below is enough */
    }
    struct strbuf joined;
    strbuf_init(&joined, 2 * PATH_MAX);
    int rc = strbuf_printf(&joined, "%.*s/%s", (int)base_len, base, rest);
    if (rc) {
        return rc;
    }
    free(*path);
    *path = strbuf_detach(&joined);
    return 0;
}

/* Into `out` (PATH_MAX bytes): the canonical directory of the file `path`; of a NULL path, the
 * working directory. */
static int directory_of(const char *path, char *out)
{
    if (!path) {
        return getcwd(out, PATH_MAX) ? 0 : -errno;
    }
    char *copy = strdup(path);
    if (!copy) {
        return UV_ENOMEM;
    }
    int rc = realpath(dirname(copy), out) ? 0 : -errno;
    free(copy);
    return rc;
}

static int resolve_keys(struct config *c, const char *file_dir)
{
    int rc = 0;
    for (size_t i = 0; i < c->keys.n; i++) {
        struct config_keys *k = &c->keys.v[i];
        char **const paths[] = {&k->secret_file, &k->public_key_file, &k->jwks_file, &k->ca_file};
        for (size_t j = 0; j < sizeof paths / sizeof *paths; j++) {
            rc = rc || !*paths[j] ? rc : make_absolute(paths[j], file_dir);
        }
    }
    return rc;
}

static int resolve_settings(struct config *c, const char *file_dir)
{
    int rc = 0;
    for (size_t i = 0; i < c->policy.path.n && rc == 0; i++) {
        rc = make_absolute(&c->policy.path.v[i], file_dir);
    }
    for (size_t i = 0; i < c->policy.settings.n; i++) {
        struct policy_setting *s = &c->policy.settings.v[i];
        rc = rc || strcmp(s->type, "secret_file") != 0 ? rc : make_absolute(&s->text, file_dir);
    }
    return rc;
}

static int resolve_listeners(struct config *c, const char *file_dir)
{
    int rc = 0;
    for (size_t i = 0; i < c->listen.n; i++) {
        struct config_listener *l = &c->listen.v[i];
        rc = rc || !l->client_ca ? rc : make_absolute(&l->client_ca, file_dir);
        rc = rc || !l->client_crl ? rc : make_absolute(&l->client_crl, file_dir);
        for (size_t k = 0; k < l->tls.n; k++) {
            rc = rc ? rc : make_absolute(&l->tls.v[k].cert, file_dir);
            rc = rc ? rc : make_absolute(&l->tls.v[k].key, file_dir);
        }
    }
    return rc;
}

/* `store`, `policy`: what overrides the file, relative to here. */
static int config_resolve(struct config *c, const char *path, const char *store, const char *policy)
{
    char here[PATH_MAX], file_dir[PATH_MAX];
    int rc = directory_of(NULL, here);
    rc = rc ? rc : directory_of(path, file_dir);
    rc = rc ? rc : make_absolute(&c->store.path, store && !pg_conninfo_is(store) ? here : file_dir);
    for (size_t i = 0; i < c->http_targets.n && rc == 0; i++) {
        char **ca_file = &c->http_targets.v[i].ca_file;
        rc = *ca_file ? make_absolute(ca_file, file_dir) : 0;
    }
    if (rc == 0 && c->database.path) {
        rc = make_absolute(&c->database.path, file_dir);
    }
    rc = rc ? rc : resolve_keys(c, file_dir);
    rc = rc ? rc : resolve_settings(c, file_dir);
    rc = rc ? rc : resolve_listeners(c, file_dir);
    rc = rc || !c->http.acme_webroot ? rc : make_absolute(&c->http.acme_webroot, file_dir);
    rc = rc || !*c->policy.file ? rc : make_absolute(&c->policy.file, policy ? here : file_dir);
    if (rc == 0 && path) {
        c->source.path = xstrdup(path);
        rc = make_absolute(&c->source.path, here);
    }
    return rc;
}

/* ---------------------------------------------------------------- the contract */

/* Room for what make_overrides() writes: one per option, three for --store. */
enum {
    OVERRIDES_MAX = 9,
    PROBLEMS_MAX_BYTES = 64 * 1024,
    LISTEN_MAX = 64 + 1 /* one more than the schema allows, which refuses it */
};

/* What is overridden, and by what: an option, else a variable of the environment. */
struct override {
    const char *option, *variable;
    const char *given; /* by the option; NULL: it was not given */
    const char *value; /* NULL: neither */
    const char *label; /* of the one that counts, for messages */
};

enum { OVER_LISTEN, OVER_ADMIN, OVER_PROBES, OVER_STORE, OVER_POLICY, OVER_WORKERS, OVER_COUNT };

static void overrides_read(const struct config_overrides *o, bool environment,
                           struct override out[OVER_COUNT])
{
    const struct override table[OVER_COUNT] = {
        [OVER_LISTEN] = {"--listen", "TIDEGATE_LISTEN", o->listen_count ? "" : NULL, NULL, NULL},
        [OVER_ADMIN] = {"--admin", "TIDEGATE_ADMIN", o->admin, NULL, NULL},
        [OVER_PROBES] = {NULL, "TIDEGATE_ADMIN_PUBLIC", NULL, NULL, NULL},
        [OVER_STORE] = {"--store", "TIDEGATE_STORE", o->store, NULL, NULL},
        [OVER_POLICY] = {"--policy", "TIDEGATE_POLICY", o->policy, NULL, NULL},
        [OVER_WORKERS] = {"--workers", NULL, o->workers, NULL, NULL},
    };
    for (size_t i = 0; i < OVER_COUNT; i++) {
        const char *said = environment && table[i].variable ? getenv(table[i].variable) : NULL;
        said = said && *said ? said : NULL;
        out[i] = table[i];
        out[i].value = table[i].given ? table[i].given : said;
        out[i].label = table[i].given ? table[i].option : table[i].variable;
    }
}

size_t config_environment(const struct config_overrides *o,
                          const char *names[CONFIG_ENVIRONMENT_MAX])
{
    struct override all[OVER_COUNT];
    size_t n = 0;
    overrides_read(o, true, all);
    for (size_t i = 0; i < OVER_COUNT; i++) {
        if (all[i].value && !all[i].given) {
            names[n++] = all[i].variable;
        }
    }
    return n;
}

/* A list of texts that are cut out of one. */
struct cut_list {
    char *text; /* owned */
    const char *v[LISTEN_MAX];
    size_t n;
};

static void cut_at_commas(const char *text, struct cut_list *out)
{
    *out = (struct cut_list){.text = xstrdup(text)};
    for (char *at = out->text; at && out->n < LISTEN_MAX;) {
        at += strspn(at, " ");
        out->v[out->n++] = at;
        at = strchr(at, ',');
        if (at) {
            *at++ = '\0';
        }
    }
}

/* `--store` names the kind of store as well as the place. */
static size_t override_store(const struct override *by, struct lua_config_override *out)
{
    static const char *const drivers[] = {"sqlite", "postgres"};
    bool pg = pg_conninfo_is(by->value);
    out[0] = (struct lua_config_override){by->label, "store.driver", &drivers[pg], 1};
    out[1] = (struct lua_config_override){by->label, "store.conninfo", &by->value, pg ? 1 : 0};
    out[2] = (struct lua_config_override){by->label, "store.path", &by->value, 1};
    return pg ? 2 : 3;
}

static size_t make_overrides(const struct override all[OVER_COUNT], const char *const *listen,
                             size_t listen_count, struct lua_config_override *out)
{
    const struct override *admin = &all[OVER_ADMIN], *policy = &all[OVER_POLICY];
    const struct override *workers = &all[OVER_WORKERS], *probes = &all[OVER_PROBES];
    size_t n = 0;
    if (listen_count > 0) {
        out[n++] =
            (struct lua_config_override){all[OVER_LISTEN].label, "listen", listen, listen_count};
    }
    if (admin->value) {
        /* "none" is the command line's way to say false */
        size_t values = strcmp(admin->value, "none") == 0 ? 0 : 1;
        out[n++] = (struct lua_config_override){admin->label, "admin", &admin->value, values};
    }
    if (probes->value) {
        out[n++] = (struct lua_config_override){probes->label, "admin_public", &probes->value, 1};
    }
    if (all[OVER_STORE].value) {
        n += override_store(&all[OVER_STORE], out + n);
    }
    if (policy->value) {
        out[n++] = (struct lua_config_override){policy->label, "policy.file", &policy->value, 1};
    }
    if (workers->value) {
        out[n++] = (struct lua_config_override){workers->label, "workers", &workers->value, 1};
    }
    return n;
}

/* Each of the lines in `found`, which begin with a name, with its place in the file. */
static int config_place_problems(const char *path, const struct strbuf *found,
                                 struct strbuf *problems)
{
    int rc = 0;
    for (const char *at = found->len ? found->data : ""; *at && rc == 0;) {
        char label[64];
        int n = (int)strcspn(at, "\n");
        snprintf(label, sizeof label, "%.*s", (int)strcspn(at, ":"), at);
        bool in_file = path && strncmp(label, "--", 2) != 0 && islower((unsigned char)*label);
        int line = in_file ? lua_config_line(path, label) : 0;
        rc = line ? strbuf_printf(problems, "%s:%d: %.*s\n", path, line, n, at)
                  : strbuf_printf(problems, "%.*s\n", n, at);
        at += n + (at[n] == '\n');
    }
    return rc;
}

static int config_check_places(const struct config *c, const char *path,
                               const struct override all[OVER_COUNT], struct strbuf *problems)
{
    size_t n = c->listen.n;
    struct config_place *places = calloc(n + 2, sizeof *places);
    if (!places) {
        return UV_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(places[i].name, sizeof places[i].name, "%s[%zu]",
                 all[OVER_LISTEN].value ? all[OVER_LISTEN].label : "listen", i + 1);
        places[i].address = c->listen.v[i].address;
    }
    if (c->admin) {
        snprintf(places[n].name, sizeof places[n].name, "%s",
                 all[OVER_ADMIN].value ? all[OVER_ADMIN].label : "admin");
        places[n++].address = c->admin;
    }
    if (c->admin_public) {
        snprintf(places[n].name, sizeof places[n].name, "%s",
                 all[OVER_PROBES].value ? all[OVER_PROBES].label : "admin_public");
        places[n++].address = c->admin_public;
    }
    struct strbuf found;
    strbuf_init(&found, PROBLEMS_MAX_BYTES);
    int rc = config_listen_check(places, n, &found);
    free(places);
    if (rc == UV_EINVAL) {
        int full = config_place_problems(path, &found, problems);
        rc = full ? full : rc;
    }
    strbuf_clear(&found);
    return rc;
}

/* `whole`: nothing was wrong so far. */
static int config_finish(struct config *c, const char *path, const struct override all[OVER_COUNT],
                         bool whole, struct strbuf *problems)
{
    int wrong = whole ? config_check_places(c, path, all, problems) : 0;
    int rc = config_resolve(c, path, all[OVER_STORE].value, all[OVER_POLICY].value);
    if (rc) {
        int full = strbuf_printf(problems, "%s: cannot resolve its directory: %s\n", path,
                                 uv_strerror(rc));
        return full ? full : UV_EINVAL;
    }
    return wrong;
}

int config_salvage(struct config *out, const char *path, const struct config_overrides *o,
                   struct strbuf *problems, bool *salvaged)
{
    static const struct config_overrides none = {0};
    struct lua_config_override overrides[OVERRIDES_MAX];
    struct override all[OVER_COUNT];
    struct cut_list cut = {.text = NULL};
    struct lua_config_spec spec = make_spec();
    o = o ? o : &none;
    *out = (struct config){0};
    /* tools without a configuration have no environment either */
    overrides_read(o, path != NULL, all);
    bool listens = all[OVER_LISTEN].value && !all[OVER_LISTEN].given;
    if (listens) {
        cut_at_commas(all[OVER_LISTEN].value, &cut);
    }
    size_t n = make_overrides(all, listens ? cut.v : o->listen, listens ? cut.n : o->listen_count,
                              overrides);
    if (o->setting_count) {
        overrides[n++] = (struct lua_config_override){"--setting", "policy.settings", o->settings,
                                                      o->setting_count};
    }
    int rc = lua_config_load(&spec, path, overrides, n, out, problems, salvaged);
    free(cut.text);
    if (rc && !*salvaged) {
        return rc;
    }
    int more = config_finish(out, path, all, rc == 0, problems);
    if (more) {
        *salvaged = more == UV_EINVAL;
        rc = *salvaged ? UV_EINVAL : more;
    }
    if (rc && !*salvaged) {
        config_clear(out);
    }
    out->source.overrides = o;
    return rc;
}

int config_load(struct config *out, const char *path, const struct config_overrides *o,
                struct strbuf *problems)
{
    bool salvaged = false;
    int rc = config_salvage(out, path, o, problems, &salvaged);
    if (salvaged) {
        config_clear(out);
    }
    return rc;
}

int config_load_again(struct config *out, const struct config *before, struct strbuf *problems)
{
    return config_load(out, before->source.path, before->source.overrides, problems);
}

void config_clear(struct config *c)
{
    struct lua_config_spec spec = make_spec();
    lua_config_clear(&spec, c);
    free(c->source.path);
    c->source.path = NULL;
}

int config_reference(struct strbuf *out)
{
    struct lua_config_spec spec = make_spec();
    return lua_config_reference(&spec, out);
}
