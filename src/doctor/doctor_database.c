#include "doctor/doctor_database.h"

#include "base/alloc.h"
#include "pg/pg_conninfo.h"
#include "store/postgres/pg_schema.h"
#include "store/postgres/pg_survey.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double clock_most_s = 1.0;

/* As the broker would begin, without changing anything. */
static void database_schema(const struct config *cfg, const char *shown, struct doctor_report *r,
                            const struct pg_conninfo *conninfo)
{
    struct err e = {0};
    struct pg_schema_state *state = xcalloc(1, sizeof *state);
    int rc = pg_schema_prepare(conninfo, false, (uint64_t)cfg->store.partition_ids, state, &e);
    if (rc) {
        doctor_fail(r, "database", "Mend it, then run `tidegate migrate`.", "%s: %s", shown,
                    e.text);
    } else {
        doctor_ok(r, "database", "%s: schema version %d, and this role owns it", shown,
                  state->version);
    }
    free(state);
}

static void database_settings(const struct pg_survey *s, struct doctor_report *r)
{
    doctor_ok(r, "database", "PostgreSQL %s, a round trip takes %.1f ms", s->version,
              s->round_trip_s * 1000);
    if (s->pooler) {
        doctor_warn(r, "database",
                    "Connect to the server itself, or let the pooler give each client a session of "
                    "its own (pool_mode = session): LISTEN, advisory locks and prepared statements "
                    "need one.",
                    "a connection pooler answers for the server");
    }
    if (strcmp(s->fsync, "off") == 0 || strcmp(s->synchronous_commit, "off") == 0) {
        doctor_warn(
            r, "database",
            "ALTER DATABASE ... SET synchronous_commit = on, for applications that insert events "
            "(the broker's own sessions have it); fsync = on for the server.",
            "fsync is %s and synchronous_commit is %s: a crash of the server may take events "
            "that were acknowledged",
            s->fsync, s->synchronous_commit);
    }
    if (fabs(s->clock_ahead_s) > clock_most_s + s->round_trip_s) {
        doctor_warn(r, "clock", "Synchronise both machines: see chrony or systemd-timesyncd.",
                    "that of the database is %.1f s %s this machine's", fabs(s->clock_ahead_s),
                    s->clock_ahead_s > 0 ? "ahead of" : "behind");
    } else {
        doctor_ok(r, "clock", "that of the database is within %.0f ms of this machine's",
                  ceil((fabs(s->clock_ahead_s) + s->round_trip_s) * 1000));
    }
}

static int database_put_latest(const struct config *cfg, struct strbuf *out)
{
    int rc = strbuf_append(out, "", 0);
    for (size_t i = 0; i < cfg->store.latest.n && rc == 0; i++) {
        rc = strbuf_printf(out, "%s%s", i ? "\n" : "", cfg->store.latest.v[i]);
    }
    return rc;
}

void doctor_database(const struct config *cfg, struct doctor_report *r)
{
    enum { LATEST_MAX_BYTES = 1 << 20 };
    struct strbuf latest;
    struct pg_conninfo conninfo;
    struct pg_survey survey;
    struct err e = {0};
    if (pg_conninfo_parse(&conninfo, cfg->store.conninfo, &e)) {
        doctor_fail(r, "database", NULL, "store.conninfo: %s", e.text);
        return;
    }
    database_schema(cfg, conninfo.shown, r, &conninfo);
    strbuf_init(&latest, LATEST_MAX_BYTES);
    int rc = database_put_latest(cfg, &latest);
    if (rc == 0 &&
        pg_survey(cfg->store.conninfo, latest.len ? latest.data : "", &survey, &e) == 0) {
        database_settings(&survey, r);
        if (survey.other_topics) {
            doctor_warn(
                r, "database",
                "Give all brokers of a database the same store.latest. Just after a change it "
                "is well once the broker that leads has been restarted.",
                "the database keeps the newest events of other topics than store.latest "
                "names (%s): a broker with this configuration sends no snapshots unless it "
                "leads",
                survey.topics);
        }
    } else {
        doctor_warn(r, "database", NULL, "its settings cannot be read: %s", e.text);
    }
    strbuf_clear(&latest);
    pg_conninfo_clear(&conninfo);
}
