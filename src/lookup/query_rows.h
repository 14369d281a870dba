/* The result of a policy's query: rows of scalars, bounded, independent of the database they came
 * from. A backend of lookup/ fills it (perhaps on a pool thread: no shared state), lua/ reads it. */
#ifndef LOOKUP_QUERY_ROWS_H
#define LOOKUP_QUERY_ROWS_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strbuf.h"

#include <stdint.h>

enum query_type { QUERY_NULL, QUERY_INTEGER, QUERY_NUMBER, QUERY_BOOL, QUERY_TEXT };

/* A parameter, or a cell. */
struct query_value {
    enum query_type type;
    union {
        int64_t integer;
        double number;
        bool boolean;
        struct slice text; /* any bytes; borrowed */
    };
};

enum { QUERY_COLUMNS_MAX = 64 };

struct query_rows {
    size_t columns, rows;
    size_t max_rows, max_bytes, bytes;
    struct strbuf cells; /* of struct query_cell, row by row */
    struct strbuf text;
    struct slice_at {
        size_t at, n;
    } names[QUERY_COLUMNS_MAX]; /* in text */
    size_t filled;              /* cells of the row that is being added */
};

/* `max_bytes`: of all cells together, 16 for each that is not text. */
void query_rows_init(struct query_rows *r, size_t max_rows, size_t max_bytes);
/* Frees; may be filled again. */
void query_rows_clear(struct query_rows *r);

/* Filling: all columns first, then the cells, row by row. The bytes are copied. UV_EINVAL: two
 * columns of one name, or too many; UV_EMSGSIZE: too many rows or bytes; `e` says which. */
int query_rows_add_column(struct query_rows *r, struct slice name, struct err *e);
int query_rows_add(struct query_rows *r, const struct query_value *v, struct err *e);

/* Reading; texts are borrowed until the rows change. */
struct slice query_rows_name(const struct query_rows *r, size_t column);
struct query_value query_rows_cell(const struct query_rows *r, size_t row, size_t column);

#endif
