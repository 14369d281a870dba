#include "store/postgres/pg_survey.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <uv.h>

static const char survey_sql[] =
    "SELECT current_setting('server_version'), current_setting('synchronous_commit'),"
    " current_setting('fsync'), extract(epoch from clock_timestamp())::text,"
    " pg_backend_pid()::text";

/* Fails where the schema is of before version 5. */
static const char topics_sql[] =
    "SELECT 1, array_to_string(s.patterns, ' ') FROM tidegate.latest_state s,"
    " (SELECT CASE WHEN $1 = '' THEN '{}' ELSE string_to_array($1, chr(10)) END AS own) o"
    " WHERE s.patterns <> '{}' AND NOT (s.patterns @> o.own AND s.patterns <@ o.own)";

static double survey_unix_s(void)
{
    struct timeval now = {0};
    (void)gettimeofday(&now, NULL);
    return (double)now.tv_sec + (double)now.tv_usec / 1e6;
}

static void survey_copy(char out[PG_SURVEY_TEXT_MAX], const PGresult *res, int column)
{
    snprintf(out, PG_SURVEY_TEXT_MAX, "%s", PQgetvalue(res, 0, column));
}

static int survey_failed(const PGconn *c, struct err *e)
{
    const char *why = PQerrorMessage(c);
    return err_set(e, UV_ENOTCONN, "%.*s", (int)strcspn(why, "\n"), why);
}

static int survey_ask(PGconn *c, struct pg_survey *out, struct err *e)
{
    double before = survey_unix_s();
    PGresult *res = PQexec(c, survey_sql);
    double after = survey_unix_s();
    int rc = 0;
    if (PQresultStatus(res) != PGRES_TUPLES_OK) {
        rc = survey_failed(c, e);
    } else {
        survey_copy(out->version, res, 0);
        survey_copy(out->synchronous_commit, res, 1);
        survey_copy(out->fsync, res, 2);
        out->round_trip_s = after - before;
        out->clock_ahead_s = strtod(PQgetvalue(res, 0, 3), NULL) - (before + after) / 2;
        /* a pooler makes up the number that it gives its clients for cancelling */
        out->pooler = strtol(PQgetvalue(res, 0, 4), NULL, 10) != PQbackendPID(c);
    }
    PQclear(res);
    return rc;
}

static void survey_ask_topics(PGconn *c, const char *latest, struct pg_survey *out)
{
    PGresult *res = PQexecParams(c, topics_sql, 1, NULL, &latest, NULL, NULL, 0);
    out->other_topics = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) > 0;
    if (out->other_topics) {
        snprintf(out->topics, sizeof out->topics, "%s", PQgetvalue(res, 0, 1));
    }
    PQclear(res);
}

int pg_survey(const char *conninfo, const char *latest, struct pg_survey *out, struct err *e)
{
    static const char *const keys[] = {"dbname", "connect_timeout", "application_name", NULL};
    const char *const values[] = {conninfo, "10", "tidegate doctor", NULL};
    PGconn *c = PQconnectdbParams(keys, values, 1);
    *out = (struct pg_survey){.pooler = false};
    int rc = PQstatus(c) == CONNECTION_OK ? survey_ask(c, out, e) : survey_failed(c, e);
    if (rc == 0) {
        survey_ask_topics(c, latest, out);
    }
    PQfinish(c);
    return rc;
}
