#include "doctor/doctor.h"

#include "auth/keyring.h"
#include "base/logging.h"
#include "cli/cli_config.h"
#include "cli/cli_options.h"
#include "cli/cli_text.h"
#include "doctor/doctor_database.h"
#include "doctor/doctor_machine.h"
#include "doctor/doctor_report.h"
#include "doctor/doctor_stream.h"
#include "remote/client/remote_target.h"
#include "server/server_keys.h"
#include "server/server_tls.h"

#include <stdio.h>
#include <sysexits.h>

enum { EX_SICK = 1, HEARTBEAT_WAIT_S = 20 };

const char doctor_details[] =
    "With a configuration: descriptors, clock, the disk of the store or the database (connection,\n"
    "schema, rights, settings, clock, poolers), keys and certificates. Run it as the user that runs the\n"
    "broker. It changes nothing.\n"
    "\n"
    "With --url, the address that clients use: what the way there does to a stream. It subscribes,\n"
    "publishes two events on --topic and waits for a heartbeat: time to the first byte, buffering,\n"
    "heartbeats, compression, HTTP/2.\n"
    "\n"
    "Each line begins with ok, warn or FAIL; what to do stands below. Exit codes: 0 nothing failed; 1\n"
    "something did; 64 wrong arguments; 78 a wrong configuration.\n";

struct doctor_words {
    struct remote_words remote; /* first: REMOTE_OPTION_ROWS */
    const char *topic;
    double wait_s;
};

const struct option_row doctor_rows[] = {
    OPTION_ROW("--topic", "TOPIC",
               "where the events of --url are published and read; without it: tidegate-doctor",
               OPTION_TEXT, offsetof(struct doctor_words, topic)),
    OPTION_ROW("--wait", "SECONDS", "longest wait for a heartbeat, and for events; without it: 20",
               OPTION_REAL, offsetof(struct doctor_words, wait_s), .min = 0.1, .max = 3600),
    REMOTE_OPTION_ROWS,
    {.name = NULL},
};
static const struct options doctor_options = {"tidegate", "doctor", doctor_rows};

struct tls_findings {
    struct doctor_report *report;
    unsigned count;
};

static void doctor_on_tls(void *ctx, bool is_error, const char *at, const char *text)
{
    struct tls_findings *t = ctx;
    t->count++;
    if (is_error) {
        doctor_fail(t->report, "certificates", NULL, "%s: %s", at, text);
    } else {
        doctor_warn(t->report, "certificates", NULL, "%s: %s", at, text);
    }
}

static void doctor_secrets(const struct config *cfg, struct doctor_report *r)
{
    struct tls_findings t = {.report = r};
    struct keyring *ring = NULL;
    struct err e = {0};
    size_t certificates = 0, fetched = 0;
    for (size_t i = 0; i < cfg->keys.n; i++) {
        fetched += cfg->keys.v[i].jwks_url != NULL;
    }
    if (server_keys_open(&ring, cfg, &e)) {
        doctor_fail(r, "keys", NULL, "%s", e.text);
    } else if (cfg->keys.n) {
        doctor_ok(r, "keys", "%zu key set%s%s", cfg->keys.n, cli_plural((long long)cfg->keys.n),
                  fetched ? "; those of a jwks_url were not fetched" : "");
    }
    keyring_close(ring);
    server_tls_check(cfg, doctor_on_tls, &t);
    for (size_t i = 0; i < cfg->listen.n; i++) {
        certificates += cfg->listen.v[i].tls.n;
    }
    if (certificates && t.count == 0) {
        doctor_ok(r, "certificates", "%zu, each valid for weeks", certificates);
    }
}

/* 0, or the exit code after a message. */
static int doctor_configuration(const char *conf, struct doctor_report *r)
{
    struct config cfg;
    int code = cli_config_load("doctor", conf, NULL, &cfg);
    if (code) {
        return code;
    }
    doctor_machine(&cfg, r);
    if (cfg.store.conninfo) {
        doctor_database(&cfg, r);
    }
    doctor_secrets(&cfg, r);
    config_clear(&cfg);
    return 0;
}

static int doctor_url(const struct doctor_words *w, struct doctor_report *r)
{
    struct remote_target target;
    struct remote_words words = w->remote;
    words.conf = NULL;
    int code = remote_target_open(&doctor_options, &words, &target);
    if (code == 0) {
        doctor_stream(&target, w->topic ? w->topic : "tidegate-doctor", w->wait_s, r);
    }
    remote_target_clear(&target);
    return code;
}

int doctor(char **words, size_t n)
{
    char *rest = NULL;
    size_t count = 1;
    struct doctor_words w = {.wait_s = HEARTBEAT_WAIT_S};
    struct doctor_report r = {.ok = 0};
    int code = options_parse(&doctor_options, &w, words, n, &rest, &count);
    if (code || w.remote.help) {
        return code ? code : CLI_HELP;
    }
    const char *conf = rest ? rest : w.remote.conf;
    if (!conf && !w.remote.url) {
        conf = cli_config_default("doctor");
        if (!conf) {
            return options_refuse(&doctor_options, "CONF",
                                  "a configuration, or --url, was expected");
        }
    }
    log_set_level(LOG_LEVEL_ERROR);
    code = conf ? doctor_configuration(conf, &r) : 0;
    code = code || !w.remote.url ? code : doctor_url(&w, &r);
    if (code) {
        return code;
    }
    printf("%u ok, %u warning%s, %u failure%s\n", r.ok, r.warnings, cli_plural(r.warnings),
           r.failures, cli_plural(r.failures));
    return r.failures ? EX_SICK : EX_OK;
}
