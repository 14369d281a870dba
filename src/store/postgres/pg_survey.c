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

int pg_survey(const char *conninfo, struct pg_survey *out, struct err *e)
{
    static const char *const keys[] = {"dbname", "connect_timeout", "application_name", NULL};
    const char *const values[] = {conninfo, "10", "tidegate doctor", NULL};
    PGconn *c = PQconnectdbParams(keys, values, 1);
    *out = (struct pg_survey){.pooler = false};
    int rc = PQstatus(c) == CONNECTION_OK ? survey_ask(c, out, e) : survey_failed(c, e);
    PQfinish(c);
    return rc;
}
