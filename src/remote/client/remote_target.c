#include "remote/client/remote_target.h"

#include "cli/cli_config.h"
#include "cli/cli_text.h"
#include "cli/cli_token.h"
#include "config/config.h"
#include "net/address.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <uv.h>

enum {
    TOKEN_MAX_BYTES = 16 * 1024,
    SOCKET_MAX_BYTES = 107, /* sun_path */
    CONNECT_MS = 10000,
    SILENCE_MS = 90000, /* six times the heartbeat of a broker's default */
};

static const char default_url[] = "http://127.0.0.1:8080";
static const char unix_scheme[] = "unix:";

/* ---------------------------------------------------------------- the address */

/* "http://host" -> "http://host/events"; a path that is there stays. */
static int remote_target_set_url(struct remote_target *t, const char *url, const char *path)
{
    const char *host = strstr(url, "://");
    const char *rest = host ? strchr(host + 3, '/') : NULL;
    strbuf_reset(&t->url);
    if (rest && rest[1]) {
        return strbuf_append_str(&t->url, url);
    }
    return strbuf_printf(&t->url, "%.*s%s", (int)(rest ? (size_t)(rest - url) : strlen(url)), url,
                         path);
}

static int remote_target_set_socket(struct remote_target *t, const char *path, const char *events)
{
    int rc = strbuf_append_str(&t->socket, path);
    return rc ? rc : remote_target_set_url(t, "http://localhost", events);
}

/* How a client of this machine reaches a listener; false: it does not know. */
static bool remote_target_of_listener(struct remote_target *t, const struct config_listener *l,
                                      const char *events)
{
    char url[512];
    const char *port = strrchr(l->address, ':');
    if (l->redirect_https || l->proxy_protocol || strncmp(l->address, "systemd:", 8) == 0 ||
        !port) {
        return false;
    }
    if (strncmp(l->address, unix_scheme, sizeof unix_scheme - 1) == 0) {
        struct address at;
        struct err e = {0}; /* it was checked */
        return l->tls.n == 0 && address_parse(l->address, &at, &e) == 0 &&
               remote_target_set_socket(t, at.path, events) == 0;
    }
    if (l->tls.n > 0) { /* a certificate is for a name */
        if (l->tls.v[0].names.n == 0 || strchr(l->tls.v[0].names.v[0], '*')) {
            return false;
        }
        snprintf(url, sizeof url, "https://%s%s", l->tls.v[0].names.v[0], port);
    } else if (strncmp(l->address, "0.0.0.0:", 8) == 0 || strncmp(l->address, "[::]:", 5) == 0) {
        snprintf(url, sizeof url, "http://%s%s", *l->address == '[' ? "[::1]" : "127.0.0.1", port);
    } else {
        snprintf(url, sizeof url, "http://%s", l->address);
    }
    return remote_target_set_url(t, url, events) == 0;
}

static int remote_target_from_config(const struct options *o, struct remote_target *t,
                                     const char *conf)
{
    struct config cfg;
    int code = cli_config_load(o->command, conf, NULL, &cfg);
    if (code) {
        fprintf(stderr, "(or name the broker with --url)\n");
        return code;
    }
    bool found = false;
    for (size_t i = 0; i < cfg.listen.n && !found; i++) {
        found = remote_target_of_listener(t, &cfg.listen.v[i], cfg.http.events_path);
    }
    config_clear(&cfg);
    return found ? 0
                 : options_refuse(o, conf,
                                  "none of its addresses says how clients reach it: name the "
                                  "broker with --url");
}

static int remote_target_set_address(const struct options *o, const struct remote_words *w,
                                     struct remote_target *t)
{
    struct err e = {0};
    int rc;
    if (w->url && w->conf) {
        return options_refuse(o, "--url", "with --conf there is an address already");
    }
    const char *conf = w->url ? NULL : w->conf ? w->conf : cli_config_default(NULL);
    if (conf) {
        return remote_target_from_config(o, t, conf);
    }
    const char *url = w->url ? w->url : default_url;
    if (strncmp(url, unix_scheme, sizeof unix_scheme - 1) == 0) {
        rc = url[5] == '/' ? remote_target_set_socket(t, url + 5, "/events") : UV_EINVAL;
        return rc ? options_refuse(o, url, "unix:/path, of at most %d bytes, was expected",
                                   (int)SOCKET_MAX_BYTES)
                  : 0;
    }
    rc = remote_target_set_url(t, url, "/events");
    if (rc || strchr(url, '?')) {
        return options_refuse(o, url, rc ? "is too long" : "an URL without a query was expected");
    }
    return http_client_check_url(t->url.data, &e) ? options_refuse(o, url, "%s", e.text) : 0;
}

/* ---------------------------------------------------------------- who asks */

static int remote_target_set_token(const struct options *o, const struct remote_words *w,
                                   struct remote_target *t)
{
    struct strbuf token;
    const char *given = w->token ? w->token : getenv("TIDEGATE_TOKEN");
    if (!given || !*given) {
        return 0;
    }
    strbuf_init(&token, TOKEN_MAX_BYTES);
    int code = cli_token_read(o, "--token", given, &token);
    if (code == 0 && strbuf_printf(&t->authorization, "Bearer %s", token.data)) {
        code = EX_OSERR;
    }
    strbuf_clear(&token);
    if (code == 0) {
        t->headers[t->header_count++] = (struct http_client_header){
            slice_str("Authorization"), strbuf_slice(&t->authorization)};
    }
    return code;
}

static int remote_target_set_headers(const struct options *o, const struct remote_words *w,
                                     struct remote_target *t)
{
    struct err e = {0};
    for (size_t i = 0; i < w->header_count; i++) {
        struct http_client_header h = http_client_split_header(w->headers[i]);
        if (!h.name.p) {
            return options_refuse(o, w->headers[i], "\"Name: value\" was expected");
        }
        t->headers[t->header_count++] = h;
    }
    for (size_t i = 0; i < t->header_count; i++) {
        if (http_client_check_header(&t->headers[i], &e)) {
            return options_refuse(o, "--header", "%s", e.text);
        }
    }
    return 0;
}

int remote_target_open(const struct options *o, const struct remote_words *w,
                       struct remote_target *out)
{
    *out = (struct remote_target){.ca = w->ca};
    strbuf_init(&out->url, HTTP_CLIENT_URL_MAX_BYTES);
    strbuf_init(&out->socket, SOCKET_MAX_BYTES);
    strbuf_init(&out->authorization, TOKEN_MAX_BYTES + 8);
    int code = remote_target_set_address(o, w, out);
    code = code ? code : remote_target_set_token(o, w, out);
    return code ? code : remote_target_set_headers(o, w, out);
}

void remote_target_clear(struct remote_target *t)
{
    strbuf_clear(&t->url);
    strbuf_clear(&t->socket);
    strbuf_clear(&t->authorization);
}

const char *remote_target_text(const struct remote_target *t)
{
    return t->socket.len ? t->socket.data : t->url.data;
}

/* ---------------------------------------------------------------- requests and answers */

struct http_fetch_request remote_target_request(const struct remote_target *t, const char *method,
                                                const char *url)
{
    return (struct http_fetch_request){.method = method,
                                       .url = url,
                                       .socket = t->socket.len ? t->socket.data : NULL,
                                       .headers = t->headers,
                                       .header_count = t->header_count,
                                       .ca_file = t->ca,
                                       .h2 = true,
                                       .connect_ms = CONNECT_MS,
                                       .silence_ms = SILENCE_MS};
}

int remote_put_param(struct strbuf *out, struct slice name, struct slice value)
{
    static const char plain[] = "-_.~/"
                                "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const struct slice parts[] = {name, value};
    int rc = strbuf_append(out, out->len && strchr(out->data, '?') ? "&" : "?", 1);
    for (size_t k = 0; k < 2 && rc == 0; k++) {
        rc = k ? strbuf_append(out, "=", 1) : 0;
        for (size_t i = 0; i < parts[k].n && rc == 0; i++) {
            char ch = parts[k].p[i];
            rc = ch && strchr(plain, ch) ? strbuf_append(out, &ch, 1)
                                         : strbuf_printf(out, "%%%02X", (unsigned char)ch);
        }
    }
    return rc;
}

void remote_problem(int status, struct slice body, char *out, size_t size)
{
    json_t *doc = json_loadb(body.p ? body.p : "", body.n, 0, NULL);
    const char *title = cli_text_of(doc, "title"), *detail = cli_text_of(doc, "detail");
    snprintf(out, size, "%d%s%s%s%s", status, *title ? " " : "", title, *detail ? ": " : "",
             detail);
    json_decref(doc);
}

static bool remote_target_has_credential(const struct remote_target *t)
{
    for (size_t i = 0; i < t->header_count; i++) {
        if (slice_is_nocase(t->headers[i].name, "Authorization")) {
            return true;
        }
    }
    return false;
}

const char *remote_target_hint(const struct remote_target *t, int status, int why)
{
    return status == 401 && !remote_target_has_credential(t) ? " (no token was sent: see --token)"
           : status == 0 && why == UV_ENOTCONN               ? ": does the broker run?"
                                                             : "";
}

bool remote_is_stream(const struct http_fetch *f)
{
    static const char wanted[] = "text/event-stream";
    struct slice type = http_fetch_header(f, "Content-Type");
    return http_fetch_status(f) == 200 && type.n >= sizeof wanted - 1 &&
           slice_is_nocase(slice_of(type.p, sizeof wanted - 1), wanted);
}

int remote_check_pairs(const struct options *o, const char *option, const char *expected,
                       const char *const *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *equals = strchr(pairs[i], '=');
        if (!equals || equals == pairs[i]) {
            return options_refuse(o, option, "%s: %s was expected", pairs[i], expected);
        }
    }
    return 0;
}

int remote_exit_code(int status)
{
    return status >= 200 && status <= 299                                     ? EX_OK
           : status == 401 || status == 403                                   ? EX_NOPERM
           : status == 400 || status == 413 || status == 415 || status == 422 ? EX_DATAERR
           : status == 429 || status == 502 || status == 503 || status == 504 ? EX_TEMPFAIL
           : status                                                           ? EX_PROTOCOL
                                                                              : EX_UNAVAILABLE;
}
