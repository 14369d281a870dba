/* Checks the text of a policy's query before a database sees it: counts its parameters and rejects
 * texts that are not look-ups. Not a parser: the database decides in the end. */
#ifndef LOOKUP_QUERY_SQL_H
#define LOOKUP_QUERY_SQL_H

#include "base/err.h"
#include "base/slice.h"

enum { QUERY_SQL_MAX_BYTES = 64 * 1024, QUERY_PARAMETERS_MAX = 32 };

/* The highest n of all $n outside of strings, names and comments; 0: none. UV_EINVAL, with a
 * reason: not one statement that begins with SELECT, WITH, VALUES or TABLE, a quote that is not
 * closed, a $n that is skipped or too high. */
int query_sql_parameters(struct slice sql, struct err *e);
/* Adds the place in the text, `offset` bytes from its start, to the database's error in `e`. */
void query_sql_place(const char *sql, size_t offset, struct err *e);

#endif
