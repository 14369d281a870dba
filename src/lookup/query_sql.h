/* The text of a policy's query, looked at before any database has seen it: enough to count its
 * parameters and to refuse what is no look-up. Not a parser: the database has the last word. */
#ifndef LOOKUP_QUERY_SQL_H
#define LOOKUP_QUERY_SQL_H

#include "base/err.h"
#include "base/slice.h"

enum { QUERY_SQL_MAX_BYTES = 64 * 1024, QUERY_PARAMETERS_MAX = 32 };

/* The highest n of all $n outside of strings, names and comments; 0: none. UV_EINVAL, with a
 * reason: not one statement that begins with SELECT, WITH, VALUES or TABLE, a quote that is not
 * closed, a $n that is skipped or too high. */
int query_sql_parameters(struct slice sql, struct err *e);
/* Adds to `e`, a database's refusal of the text, where in it: `offset` bytes from its start. */
void query_sql_place(const char *sql, size_t offset, struct err *e);

#endif
