#include "server/server_options.h"

#include "base/alloc.h"
#include "base/require.h"
#include "net/h2/h2_conn.h"

#include <stdlib.h>

/* The admin service answers a few tools on this machine; its limits are of no interest to anyone.
 */
enum {
    ADMIN_CONNECTIONS = 64,
    PROBES_PER_S = 10, /* of an address; some Prometheus and a kubelet ask less than one */
    ADMIN_BODY_BYTES = 64 * 1024,
    ADMIN_DEAD_PEER_MS = 10000,
};

/* What the broker asks others, for all its policies and keys together: plenty, and bounded. */
enum { HTTP_CLIENT_ACTIVE = 32, HTTP_CLIENT_QUEUED = 256, HTTP_CLIENT_IDLE = 16 };

/* One of these names, which the schema knows. */
static unsigned server_options_choice(const char *text, const char *const *names)
{
    unsigned i = 0;
    while (strcmp(text, names[i]) != 0) {
        i++;
        REQUIRE(names[i] != NULL);
    }
    return i;
}

static enum sse_topic topic_of(const struct config *c)
{
    static const char *const names[] = {[SSE_TOPIC_NONE] = "none",
                                        [SSE_TOPIC_COMMENT] = "comment",
                                        [SSE_TOPIC_EVENT] = "event",
                                        NULL};
    return server_options_choice(c->sse.topic, names);
}

static enum prime prime_of(const struct config *c)
{
    enum prime how = PRIME_DEFAULT;
    REQUIRE(prime_parse(slice_str(c->sse.prime), &how)); /* the schema has its names */
    return how;
}

static struct broker_options broker_options(const struct config *c)
{
    return (struct broker_options){
        .events_path = c->http.events_path,
        .content_type = c->http.content_type,
        .page = c->http.page,
        .page_public = c->http.page_public,
        .health_path = c->http.health_path,
        .https_port = (unsigned)c->http.https_port,
        .acme_webroot = c->http.acme_webroot,
        .cors = {.origins = c->http.cors_origins.v,
                 .origin_count = c->http.cors_origins.n,
                 .headers = c->http.cors_headers.v,
                 .header_count = c->http.cors_headers.n,
                 .credentials = c->http.cors_credentials,
                 .max_age_s = (unsigned)c->http.cors_max_age_s},
        .webhook_origins = c->http.webhook_origins.v,
        .webhook_origin_count = c->http.webhook_origins.n,
        .webhook_per_min = 60 * (unsigned)c->limits.publishes_per_address_per_s,
        .cross_site_publish = c->http.cross_site_publish,
        .heartbeat_s = (unsigned)c->sse.heartbeat_s,
        .retry_ms = (unsigned)c->sse.retry_ms,
        .turn_bytes = (size_t)c->sse.turn_bytes,
        .max_lag = (uint64_t)c->sse.max_lag_events,
        .on_lag = strcmp(c->sse.on_lag, "skip") == 0 ? ON_LAG_SKIP : ON_LAG_CLOSE,
        .gap_event = c->sse.gap_event,
        .revoked_event = c->sse.revoked_event,
        .end_event = c->sse.end_event,
        .live_event = c->sse.live_event,
        .latest = c->store.latest.n > 0,
        .prime = prime_of(c),
        .topic = topic_of(c),
        .cloudevents_source = c->sse.cloudevents_source,
        .position_event = c->sse.position_event,
        .position_s = (unsigned)c->sse.position_s,
        .credential_params = c->policy.credential_params.v,
        .credential_param_count = c->policy.credential_params.n,
        .query_params = c->http.query_params.v,
        .query_param_count = c->http.query_params.n,
        .show_policy = c->policy.show_version,
        .resubscribe_per_s = (unsigned)c->policy.resubscribe_per_s,
        .ask_again_per_s = (unsigned)c->policy.ask_again_per_s,
        .resubscribe_timeout_ms = (uint64_t)c->policy.resubscribe_timeout_s * 1000,
        .log_events = (size_t)c->event_log.max_events,
        .log_bytes = (size_t)c->event_log.max_bytes,
        .page_events = (size_t)c->event_log.page_events,
        .page_bytes = (size_t)c->event_log.page_bytes,
        .page_cache_bytes = (size_t)c->event_log.page_cache_bytes,
        .snapshot_ms = (unsigned)c->sse.snapshot_ms,
        .pages_at_once = (unsigned)c->limits.pages_at_once,
        .unread_page_bytes = (size_t)c->limits.unread_page_bytes,
        .publish = {.event_bytes = (size_t)c->limits.event_bytes,
                    .batch_events = (size_t)c->limits.batch_events},
        .drain_retry_ms = (unsigned)c->drain.retry_ms,
        .gzip = c->compress.gzip,
        .gzip_min_members = (unsigned)c->compress.min_members,
        .gzip_bytes = (size_t)c->compress.bytes,
        .presence = {.grace_ms = (uint64_t)c->presence.grace_s * 1000,
                     .lease_ms = (uint64_t)c->presence.lease_s * 1000,
                     .members = (size_t)c->presence.members,
                     .kept = (const char *const *)c->store.latest.v,
                     .kept_count = c->store.latest.n},
        .refusal_hold_ms = (unsigned)c->sse.refusal_hold_s * 1000,
        .identity_shown = {c->admin_identity.v, c->admin_identity.n},
    };
}

static struct public_route *routes_of(const struct config *c)
{
    static const char *const shapes[] = {
        [PUBLISH_NOT] = "",      [PUBLISH_ENVELOPE] = "envelope",       [PUBLISH_RAW] = "raw",
        [PUBLISH_FORM] = "form", [PUBLISH_CLOUDEVENTS] = "cloudevents", NULL};
    static const char *const answers[] = {[ANSWER_JSON] = "json",
                                          [ANSWER_ID] = "id",
                                          [ANSWER_EMPTY] = "empty",
                                          [ANSWER_STREAM] = "stream",
                                          NULL};
    struct public_route *v = xcalloc(c->http.routes.n, sizeof *v);
    for (size_t i = 0; i < c->http.routes.n; i++) {
        const struct config_route *r = &c->http.routes.v[i];
        v[i] = (struct public_route){
            .path = r->path,
            .topic = r->topic,
            .publish = server_options_choice(r->publish ? r->publish : "", shapes),
            .answer = server_options_choice(r->answer, answers),
            .status = (int)r->status,
            .subscribe = r->subscribe,
            .deletes = r->delete,
            .position_field = r->position_field,
        };
    }
    return v;
}

/* "auto": no address of another machine can take more than a quarter of all places, which is an office of
 * thousands behind one address. */
static unsigned per_address(const struct config *c)
{
    enum { LEAST = 64, PART = 4 };
    int64_t given = c->limits.max_connections_per_address, part = c->limits.max_connections / PART;
    return (unsigned)(given >= 0 ? given : part > LEAST ? part : LEAST);
}

/* Ten seconds' worth may come at once. */
static struct http_rate_options rate_options(const char *setting, unsigned per_s, bool local_exempt)
{
    return (struct http_rate_options){
        .setting = setting, .per_s = per_s, .burst = 10 * per_s, .local_exempt = local_exempt};
}

/* "auto": as many as an address may hold are back within ten seconds, and at once after a restart. */
static struct http_rate_options connection_rate(const struct config *c)
{
    enum { LEAST = 100, PART = 10 };
    int64_t given = c->limits.new_connections_per_address_per_s, held = per_address(c);
    int64_t part = (held ? held : c->limits.max_connections) / PART;
    return rate_options("limits.new_connections_per_address_per_s",
                        (unsigned)(given >= 0     ? given
                                   : part > LEAST ? part
                                                  : LEAST),
                        given < 0);
}

static struct http_server_options public_options(const struct config *c)
{
    return (struct http_server_options){
        .name = "public",
        .limits = {.target_bytes = (size_t)c->limits.target_bytes,
                   .head_bytes = (size_t)c->limits.head_bytes,
                   .headers = (size_t)c->limits.headers,
                   .body_bytes = (size_t)c->limits.body_bytes},
        .head_timeout_ms = (uint64_t)c->limits.head_timeout_s * 1000,
        .body_timeout_ms = (uint64_t)c->limits.body_timeout_s * 1000,
        .idle_timeout_ms = (uint64_t)c->limits.idle_timeout_s * 1000,
        .dead_peer_ms = (uint64_t)c->sse.dead_peer_s * 1000,
        .pipeline = (unsigned)c->limits.pipeline,
        .max_connections = (unsigned)c->limits.max_connections,
        .max_connections_per_address = per_address(c),
        .local_exempt = c->limits.max_connections_per_address < 0,
        .send_buffer_bytes = (int)c->limits.send_buffer_bytes,
        .hosts = c->http.hosts.v,
        .host_count = c->http.hosts.n,
        .hsts_s = (unsigned)c->http.hsts_s,
        .bodies_bytes = (size_t)c->limits.bodies_bytes,
        .bodies_bytes_per_address = (size_t)c->limits.bodies_bytes_per_address,
        .connection_rate = connection_rate(c),
        .publish_rate = rate_options("limits.publishes_per_address_per_s",
                                     (unsigned)c->limits.publishes_per_address_per_s, false),
        .h2 = c->http.h2 ? &h2_protocol : NULL,
        .h2_streams = (unsigned)c->limits.h2_streams,
    };
}

static struct store_options store_options(const struct config *c)
{
    struct store_sqlite_options sqlite = {
        .path = c->store.path,
        .synchronous_full = strcmp(c->store.synchronous, "full") == 0,
        .poll_ms = (unsigned)c->store.poll_ms,
        .busy_timeout_ms = (unsigned)c->store.busy_timeout_ms,
        .max_queue_events = (size_t)c->store.max_queue_events,
        .max_queue_bytes = (size_t)c->store.max_queue_bytes,
        .retain_age_s = (uint64_t)c->store.retain_age_s,
        .retain_events = (uint64_t)c->store.retain_events,
        .retain_bytes = (uint64_t)c->store.retain_bytes,
        .key_window_s = (uint64_t)c->store.key_window_s,
        .event_bytes = (size_t)c->limits.event_bytes,
        .latest = {.patterns = (const char *const *)c->store.latest.v,
                   .n = c->store.latest.n,
                   .topics = (uint64_t)c->store.latest_topics},
    };
    struct store_pg_options pg = {
        .conninfo = c->store.conninfo,
        .migrate = strcmp(c->store.migrate, "auto") == 0,
        .history_connections = (unsigned)c->store.history_connections,
        .poll_ms = (unsigned)c->store.poll_ms,
        .outbox_poll_ms = (unsigned)c->store.outbox_poll_ms,
        .append_timeout_ms = (unsigned)c->store.append_timeout_ms,
        .batch_rows = (unsigned)c->store.batch_rows,
        .partition_ids = (uint64_t)c->store.partition_ids,
        .max_queue_events = sqlite.max_queue_events,
        .max_queue_bytes = sqlite.max_queue_bytes,
        .retain_age_s = sqlite.retain_age_s,
        .retain_events = sqlite.retain_events,
        .retain_bytes = sqlite.retain_bytes,
        .key_window_s = sqlite.key_window_s,
        .event_bytes = sqlite.event_bytes,
        .latest = sqlite.latest,
        .upkeep_alarm_s = (unsigned)c->store.upkeep_alarm_s,
    };
    return (struct store_options){
        .postgres = strcmp(c->store.driver, "postgres") == 0, .sqlite = sqlite, .pg = pg};
}

static struct query_options database_options(const struct config *c)
{
    return (struct query_options){.conninfo = c->database.conninfo,
                                  .path = c->database.path,
                                  .connections = (unsigned)c->database.connections,
                                  .pool = {.queue = (unsigned)c->database.queue,
                                           .timeout_ms = (unsigned)c->database.timeout_ms,
                                           .rows = (size_t)c->database.max_rows,
                                           .bytes = (size_t)c->database.max_bytes}};
}

/* Answers as long as the sets of a policy may take; of no row much is read at once. */
static struct query_options sets_database_options(const struct config *c)
{
    enum { QUEUE = 4096, ROW_BYTES = 64 * 1024 };
    struct query_options o = database_options(c);
    o.connections = 1;
    o.pool = (struct query_pool_options){
        .queue = QUEUE, .timeout_ms = POLICY_SETS_TIMEOUT_MS, .rows = 1, .bytes = ROW_BYTES};
    return o;
}

/* The targets and their headers; strings are borrowed from the configuration. */
static struct lua_http_service http_service(const struct config *c)
{
    size_t n = c->http_targets.n, headers = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        headers += c->http_targets.v[i].headers.n;
    }
    /* one piece of memory: what points to the headers is inside it, so it is freed as one */
    struct lua_http_target *v =
        xcalloc(1, (n + 1) * sizeof *v + headers * sizeof(struct http_client_header));
    struct http_client_header *all = (struct http_client_header *)(void *)(v + n + 1);
    for (size_t i = 0; i < n; i++) {
        const struct config_http_target *t = &c->http_targets.v[i];
        v[i] = (struct lua_http_target){.name = t->name,
                                        .url = t->url,
                                        .timeout_ms = (unsigned)t->timeout_ms,
                                        .max_response_bytes = (size_t)t->max_response_bytes,
                                        .ca_file = t->ca_file,
                                        .headers = all + at,
                                        .header_count = t->headers.n};
        for (size_t j = 0; j < t->headers.n; j++) {
            all[at++] = http_client_split_header(t->headers.v[j]);
        }
    }
    return (struct lua_http_service){.targets = v, .target_count = n};
}

int server_options_init(struct server_options *o, const struct config *c, struct err *e)
{
    *o = (struct server_options){
        .broker = broker_options(c), .public = public_options(c), .store = store_options(c)};
    o->routes = routes_of(c);
    o->broker.routes = (struct public_routes){o->routes, c->http.routes.n};
    o->policy = (struct lua_policy_options){
        .file = c->policy.file,
        .auth_open = strcmp(c->policy.auth, "open") == 0,
        .memory_bytes = (size_t)c->policy.memory_bytes,
        .event_bytes = (size_t)c->limits.event_bytes,
        .limits = {.topics = (size_t)c->policy.topics,
                   .params_keys = (size_t)c->policy.params_keys,
                   .params_bytes = (size_t)c->policy.params_bytes,
                   .identity_bytes = (size_t)c->policy.identity_bytes,
                   .first_bytes = (size_t)c->policy.first_bytes,
                   .presence_bytes = (size_t)c->presence.data_bytes},
        .configuration = c->source.path,
        .path = c->policy.path.v,
        .path_count = c->policy.path.n,
        .settings = c->policy.settings.v,
        .setting_count = c->policy.settings.n,
        .error_log_interval_s = (unsigned)c->policy.error_log_interval_s,
        .identity_shown = {c->admin_identity.v, c->admin_identity.n},
        .cpu = {.subscribe_ms = (unsigned)c->policy.subscribe_cpu_ms,
                .publish_ms = (unsigned)c->policy.publish_cpu_ms,
                .filter_ms = (unsigned)c->policy.filter_cpu_ms,
                .load_ms = (unsigned)c->policy.load_cpu_ms},
        .subscribe_timeout_ms = (uint64_t)c->policy.subscribe_timeout_ms,
        .publish_timeout_ms = (uint64_t)c->policy.publish_timeout_ms,
        .credential_params = c->policy.credential_params.v,
        .credential_param_count = c->policy.credential_params.n,
    };
    o->waits = (struct lua_waits_limits){
        .suspended = (unsigned)c->policy.suspended,
        .suspended_per_address = (unsigned)c->policy.suspended_per_address,
        .queued = (unsigned)c->policy.queued,
    };
    o->cache = (struct lua_cache_limits){
        .bytes = (size_t)c->cache.bytes,
        .value_bytes = (size_t)c->cache.value_bytes,
    };
    o->has_database = strcmp(c->database.driver, "none") != 0;
    o->database = database_options(c);
    o->sets_database = sets_database_options(c);
    o->sets = (struct set_store_options){.database = o->has_database ? &o->sets_database : NULL,
                                         .values = (size_t)c->policy.set_entries,
                                         .bytes = (size_t)c->policy.set_bytes};
    o->http = http_service(c);
    o->http_client = (struct http_client_options){.max_active = HTTP_CLIENT_ACTIVE,
                                                  .max_queued = HTTP_CLIENT_QUEUED,
                                                  .max_idle = HTTP_CLIENT_IDLE};
    o->admin = o->public;
    o->admin.name = "admin";
    o->admin.limits.body_bytes = ADMIN_BODY_BYTES;
    o->admin.max_connections = ADMIN_CONNECTIONS;
    o->admin.max_connections_per_address = 0;
    o->admin.connection_rate.per_s = o->admin.publish_rate.per_s = 0;
    o->admin.gives_way = true;
    o->admin.dead_peer_ms = ADMIN_DEAD_PEER_MS;
    o->admin.h2 = NULL;
    o->probes = o->admin;
    o->probes.name = "admin_public";
    o->probes.any_host = true;
    o->probes.request_rate = rate_options("admin_public", PROBES_PER_S, false);
    o->probes.request_rate.fixed = true;
    o->trusted_proxies = xcalloc(c->trusted_proxies.n, sizeof *o->trusted_proxies);
    for (size_t i = 0; i < c->trusted_proxies.n; i++) {
        int rc = network_parse(c->trusted_proxies.v[i], &o->trusted_proxies[i], e);
        if (rc) {
            server_options_clear(o);
            return err_context(e, "trusted_proxies[%zu]", i + 1);
        }
    }
    o->public.trusted_proxies = o->trusted_proxies;
    o->public.trusted_proxy_count = c->trusted_proxies.n;
    return 0;
}

void server_options_clear(struct server_options *o)
{
    free(o->http.targets);
    o->http.targets = NULL;
    free(o->trusted_proxies);
    o->trusted_proxies = NULL;
    free(o->routes);
    o->routes = NULL;
}
