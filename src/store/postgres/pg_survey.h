/* For `tidegate doctor`: settings of a database, and how far its clock is off. Blocks. */
#ifndef STORE_POSTGRES_PG_SURVEY_H
#define STORE_POSTGRES_PG_SURVEY_H

#include "base/err.h"

#include <stdbool.h>

enum { PG_SURVEY_TEXT_MAX = 64 };

struct pg_survey {
    char version[PG_SURVEY_TEXT_MAX];
    char synchronous_commit[PG_SURVEY_TEXT_MAX], fsync[PG_SURVEY_TEXT_MAX]; /* as SHOW says them */
    double clock_ahead_s; /* of the server's clock, within half of the round trip */
    double round_trip_s;
    bool pooler;       /* another program answers for the server: pgbouncer and the like */
    bool other_topics; /* it keeps the newest events of others than asked about, */
    char topics[4 * PG_SURVEY_TEXT_MAX]; /* of these */
};

/* `latest`: what store.latest names, one a line. 0, or UV_ENOTCONN with the reason, which shows nothing of `conninfo`. */
int pg_survey(const char *conninfo, const char *latest, struct pg_survey *out, struct err *e);

#endif
