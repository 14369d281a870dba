/* See pg_conninfo.h. */
#include "pg/pg_conninfo.h"

#include "base/alloc.h"
#include "base/text/nearest.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* What the broker wants unless the operator says otherwise. A server that dies without a word is
 * noticed in about ten seconds; GSS would ask servers of its own, blocking. */
static const char *const defaults[][2] = {
    {"target_session_attrs", "read-write"},
    {"client_encoding", "UTF8"},
    {"keepalives_idle", "5"},
    {"keepalives_interval", "2"},
    {"keepalives_count", "3"},
    {"tcp_user_timeout", "10000"},
    {"gssencmode", "disable"},
};

bool pg_conninfo_is(const char *text)
{
    return strchr(text, '=') || strncmp(text, "postgresql://", 13) == 0 ||
           strncmp(text, "postgres://", 11) == 0;
}

static const char *pg_conninfo_find(const PQconninfoOption *all, const char *key)
{
    for (const PQconninfoOption *o = all; o && o->keyword; o++) {
        if (strcmp(o->keyword, key) == 0) {
            return o->val && *o->val ? o->val : NULL;
        }
    }
    return NULL;
}

static bool is_address(const char *text)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

/* The n-th of "a,b,c" as a copy; NULL past the end. */
static char *nth(const char *list, size_t n)
{
    const char *at = list;
    for (; at && n > 0; n--) {
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
    return at ? xstrndup(at, strcspn(at, ",")) : NULL;
}

static size_t pg_conninfo_count(const char *list)
{
    size_t n = list ? 1 : 0;
    for (const char *p = list; p && *p; p++) {
        n += *p == ',';
    }
    return n;
}

static bool add_host(struct pg_conninfo *c, size_t i, const char *hosts, const char *addrs,
                     const char *ports)
{
    struct pg_host *h = &c->hosts[c->host_count++];
    h->host = hosts ? nth(hosts, i) : NULL;
    h->hostaddr = addrs ? nth(addrs, i) : NULL;
    h->port = pg_conninfo_count(ports) == 1 ? xstrdup(ports) : nth(ports, i);
    if (h->hostaddr && !*h->hostaddr) {
        free(h->hostaddr);
        h->hostaddr = NULL;
    }
    if (h->host && !*h->host) {
        free(h->host);
        h->host = NULL;
    }
    if (!h->host) {
        h->host = xstrdup(h->hostaddr ? h->hostaddr : "/var/run/postgresql");
    }
    h->is_socket = !h->hostaddr && (*h->host == '/' || *h->host == '@');
    if (!h->hostaddr && is_address(h->host)) {
        h->hostaddr = xstrdup(h->host);
    }
    if (!h->port || !*h->port) {
        free(h->port);
        h->port = xstrdup("5432");
    }
    return !h->hostaddr || is_address(h->hostaddr);
}

static int add_hosts(struct pg_conninfo *c, const PQconninfoOption *given,
                     const PQconninfoOption *env, struct err *e)
{
    const char *hosts = pg_conninfo_find(given, "host");
    const char *addrs = pg_conninfo_find(given, "hostaddr");
    const char *ports = pg_conninfo_find(given, "port");
    if (!hosts && !addrs) {
        hosts = pg_conninfo_find(env, "host");
        addrs = pg_conninfo_find(env, "hostaddr");
    }
    ports = ports ? ports : pg_conninfo_find(env, "port");
    ports = ports ? ports : "5432";
    size_t n = addrs ? pg_conninfo_count(addrs) : pg_conninfo_count(hosts);
    n = n ? n : 1;
    if (hosts && addrs && pg_conninfo_count(hosts) != n) {
        return err_set(e, UV_EINVAL, "host and hostaddr name different numbers of servers");
    }
    if (pg_conninfo_count(ports) != 1 && pg_conninfo_count(ports) != n) {
        return err_set(e, UV_EINVAL, "expected one port, or one for each of %zu servers", n);
    }
    if (n > PG_CONNINFO_HOSTS_MAX) {
        return err_set(e, UV_EINVAL, "names more than %d servers", PG_CONNINFO_HOSTS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (!add_host(c, i, hosts, addrs, ports)) {
            return err_set(e, UV_EINVAL, "hostaddr: expected numeric addresses");
        }
    }
    return 0;
}

static void add_param(struct pg_conninfo *c, const char *key, const char *value)
{
    if (c->param_count < PG_CONNINFO_PARAMS_MAX) {
        c->keys[c->param_count] = xstrdup(key);
        c->values[c->param_count++] = xstrdup(value);
    }
}

static void add_params(struct pg_conninfo *c, const PQconninfoOption *given, bool reader)
{
    static const char *const ours[] = {
        "host", "hostaddr", "port", "application_name", "client_encoding", "connect_timeout"};
    for (const PQconninfoOption *o = given; o->keyword; o++) {
        bool skip = !o->val || !*o->val;
        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
            skip = skip || strcmp(o->keyword, ours[i]) == 0;
        }
        if (!skip) {
            add_param(c, o->keyword, o->val);
        }
    }
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        const char *own = pg_conninfo_find(given, defaults[i][0]);
        if (reader && strcmp(defaults[i][0], "target_session_attrs") == 0) {
            continue;
        }
        if (!own || strcmp(defaults[i][0], "client_encoding") == 0) {
            add_param(c, defaults[i][0], defaults[i][1]);
        }
    }
}

static void pg_conninfo_describe(struct pg_conninfo *c, const PQconninfoOption *given,
                                 const PQconninfoOption *env)
{
    const char *user = pg_conninfo_find(given, "user");
    const char *dbname = pg_conninfo_find(given, "dbname");
    user = user ? user : pg_conninfo_find(env, "user");
    dbname = dbname ? dbname : pg_conninfo_find(env, "dbname");
    size_t at = 0;
    for (size_t i = 0; i < c->host_count && at < sizeof c->shown; i++) {
        int n = snprintf(c->shown + at, sizeof c->shown - at, "%s%s:%s", i ? "," : "",
                         c->hosts[i].host, c->hosts[i].port);
        at += n > 0 ? (size_t)n : 0;
    }
    if (at < sizeof c->shown) {
        (void)snprintf(c->shown + at, sizeof c->shown - at, "/%s as %s",
                       dbname ? dbname : (user ? user : "?"), user ? user : "?");
    }
}

/* The word in quotes after `prefix` in what libpq says; absent: it says something else. */
static struct slice pg_conninfo_quoted(const char *says, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(says, prefix, n) != 0) {
        return (struct slice){0};
    }
    return slice_of(says + n, strcspn(says + n, "\"\n"));
}

/* Why libpq does not take the text. What it quotes may be a part of a password: only words that are
 * nearly names of options are shown. */
static int pg_conninfo_refuse(const char *says, struct err *e)
{
    enum { NAMES_MAX = 128 };
    static const char usual[] = "expected \"host=... dbname=... user=...\" or "
                                "\"postgresql://user@host/dbname\"";
    const char *names[NAMES_MAX];
    size_t n = 0;
    struct slice word = pg_conninfo_quoted(says, "invalid connection option \"");
    word = word.p ? word : pg_conninfo_quoted(says, "invalid URI query parameter: \"");
    if (!word.p) {
        bool open = strstr(says, "unterminated quoted string") != NULL;
        bool bare = strncmp(says, "missing \"=\" after", strlen("missing \"=\" after")) == 0;
        return err_set(e, UV_EINVAL, "%s (not shown, it may hold a password): %s",
                       open ? "a single quote is not closed"
                       : bare
                           ? "a word has no \"=\" after it; a value with spaces needs single quotes"
                           : "cannot be read",
                       usual);
    }
    PQconninfoOption *all = PQconndefaults();
    for (const PQconninfoOption *o = all; o && o->keyword && n < NAMES_MAX; o++) {
        names[n++] = o->keyword;
    }
    const char *near = nearest_name(names, n, word);
    int rc = near
                 ? err_set(e, UV_EINVAL, "\"%.*s\" is not an option of libpq; did you mean \"%s\"?",
                           (int)word.n, word.p, near)
                 : err_set(e, UV_EINVAL,
                           "a word before a \"=\" is not an option of libpq (not shown, it may be "
                           "part of a password; a value with spaces needs single quotes): %s",
                           usual);
    PQconninfoFree(all);
    return rc;
}

static int pg_conninfo_parse_any(struct pg_conninfo *out, const char *text, bool reader,
                                 struct err *e)
{
    char *libpq_says = NULL; /* may quote the string: never shown */
    *out = (struct pg_conninfo){0};
    PQconninfoOption *given = PQconninfoParse(text, &libpq_says);
    int rc = given ? 0 : pg_conninfo_refuse(libpq_says ? libpq_says : "", e);
    if (libpq_says) {
        PQfreemem(libpq_says);
    }
    if (!given) {
        return rc;
    }
    if (pg_conninfo_find(given, "service")) {
        PQconninfoFree(given);
        return err_set(e, UV_EINVAL, "service is not supported: write its parameters");
    }
    PQconninfoOption *env = PQconndefaults();
    rc = add_hosts(out, given, env, e);
    if (rc == 0) {
        add_params(out, given, reader);
        pg_conninfo_describe(out, given, env);
    }
    PQconninfoFree(given);
    PQconninfoFree(env);
    if (rc) {
        pg_conninfo_clear(out);
    }
    return rc;
}

int pg_conninfo_parse(struct pg_conninfo *out, const char *text, struct err *e)
{
    return pg_conninfo_parse_any(out, text, false, e);
}

int pg_conninfo_parse_reader(struct pg_conninfo *out, const char *text, struct err *e)
{
    return pg_conninfo_parse_any(out, text, true, e);
}

void pg_conninfo_clear(struct pg_conninfo *c)
{
    for (size_t i = 0; i < c->host_count; i++) {
        free(c->hosts[i].host);
        free(c->hosts[i].hostaddr);
        free(c->hosts[i].port);
    }
    for (size_t i = 0; i < c->param_count; i++) {
        free(c->keys[i]);
        free(c->values[i]);
    }
    *c = (struct pg_conninfo){0};
}
