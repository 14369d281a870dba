/* Rows of tidegate.events as events. Decodes the columns every reading statement ends in:
 * seq, topic, type, data, attrs::text, key, created, expires. */
#ifndef STORE_POSTGRES_PG_ROW_H
#define STORE_POSTGRES_PG_ROW_H

#include "event/event.h"
#include "pg/pg_args.h"
#include "store/store.h"

#include <libpq-fe.h>

enum { PG_ROW_COLUMNS = 8 };
#define PG_ROW_NAMES                                                                               \
    "seq, topic, type, data, attrs, key, created, expires" /* of a function's result */
#define PG_ROW_SQL "seq, topic, type, data, attrs::text AS attrs, key, created, expires"

/* A new reference with its id set. NULL: no memory (*reason NULL), or the row cannot be an event,
 * which means that a program has written past the outbox. */
struct event *pg_row_event(const PGresult *res, int row, int first_column, size_t max_data,
                           const char **reason);
/* An argument, text[]: what store.latest names. */
void pg_row_put_patterns(struct pg_args *args, const struct store_latest *latest);

#endif
