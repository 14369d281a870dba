/* What a server's answer says when it is not a good one: see pg_client.h. */
#include "pg/pg_client_state.h"

#include <stdio.h>
#include <stdlib.h>

bool pg_result_good(const PGresult *res)
{
    ExecStatusType st = PQresultStatus(res);
    return st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK || st == PGRES_EMPTY_QUERY;
}

bool pg_result_ends_session(const PGresult *res)
{
    if (!res || pg_result_good(res)) {
        return false;
    }
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    severity = severity ? severity : PQresultErrorField(res, PG_DIAG_SEVERITY); /* PgBouncer's */
    return !severity || strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0 ||
           !PQresultErrorField(res, PG_DIAG_SQLSTATE);
}

bool pg_notice_ends_session(const PGresult *notice)
{
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *state = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
    return (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0)) ||
           (state && strncmp(state, "57P", 3) == 0); /* a warning where it cannot do more */
}

/* Where a text of class 22 (data exception) may begin to quote the value: `invalid input syntax for
 * type integer: "secret"`, in any language. */
static size_t before_value(const char *text)
{
    size_t n = 0;
    while (text[n] && (unsigned char)text[n] < 0x80 && !strchr(":\"'`", text[n])) {
        n++;
    }
    while (n && text[n - 1] == ' ') {
        n--;
    }
    return n;
}

void pg_fault_read(struct pg_fault *f, char *text, size_t size, const PGresult *res)
{
    const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    const char *message = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    const char *position = res ? PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION) : NULL;
    *f = (struct pg_fault){.code = UV_EIO,
                           .position = position ? (unsigned)strtoul(position, NULL, 10) : 0,
                           .text = message ? message : "no result"};
    (void)snprintf(f->sqlstate, sizeof f->sqlstate, "%s", state ? state : "");
    if (message && strncmp(f->sqlstate, "22", 2) == 0) {
        size_t n = before_value(message);
        (void)snprintf(text, size, "%.*s%s(SQLSTATE %s, the value is not shown)", (int)n, message,
                       n ? " " : "", f->sqlstate);
        f->text = text;
    }
}
