#include "lookup/query_rows.h"

#include "base/require.h"

#include <uv.h>

enum { CELL_COST = 16, NAMES_BYTES = QUERY_COLUMNS_MAX * 256 };

struct query_cell {
    enum query_type type;
    union {
        int64_t integer;
        double number;
        bool boolean;
        struct slice_at text;
    };
};

void query_rows_init(struct query_rows *r, size_t max_rows, size_t max_bytes)
{
    *r = (struct query_rows){.max_rows = max_rows, .max_bytes = max_bytes};
    strbuf_init(&r->cells, (max_bytes / CELL_COST + 1) * sizeof(struct query_cell));
    strbuf_init(&r->text, max_bytes + NAMES_BYTES);
}

void query_rows_clear(struct query_rows *r)
{
    strbuf_clear(&r->cells);
    strbuf_clear(&r->text);
    r->columns = r->rows = r->bytes = r->filled = 0;
}

static int query_rows_put_text(struct query_rows *r, struct slice s, struct slice_at *out)
{
    *out = (struct slice_at){r->text.len, s.n};
    return s.n ? strbuf_append(&r->text, s.p, s.n) : 0;
}

int query_rows_add_column(struct query_rows *r, struct slice name, struct err *e)
{
    REQUIRE(r->rows == 0 && r->filled == 0);
    if (r->columns == QUERY_COLUMNS_MAX) {
        return err_set(e, UV_EINVAL, "more than %d columns", (int)QUERY_COLUMNS_MAX);
    }
    for (size_t i = 0; i < r->columns; i++) {
        if (slice_eq(query_rows_name(r, i), name)) {
            return err_set(e, UV_EINVAL, "two columns are called \"%.*s\": rename one with AS",
                           (int)name.n, name.p);
        }
    }
    int rc = query_rows_put_text(r, name, &r->names[r->columns]);
    if (rc) {
        return err_set(e, UV_EINVAL, "the names of the columns are too long");
    }
    r->columns++;
    return 0;
}

int query_rows_add(struct query_rows *r, const struct query_value *v, struct err *e)
{
    struct query_cell cell = {.type = v->type};
    REQUIRE(r->columns > 0);
    if (r->filled == 0 && r->rows == r->max_rows) {
        return err_set(e, UV_EMSGSIZE, "more than %zu rows: add a LIMIT", r->max_rows);
    }
    size_t cost = CELL_COST + (v->type == QUERY_TEXT ? v->text.n : 0);
    if (cost > r->max_bytes - r->bytes) {
        return err_set(e, UV_EMSGSIZE, "more than %zu bytes: ask for fewer rows or columns",
                       r->max_bytes);
    }
    int rc = 0;
    switch (v->type) {
    case QUERY_NULL:
        break;
    case QUERY_INTEGER:
        cell.integer = v->integer;
        break;
    case QUERY_NUMBER:
        cell.number = v->number;
        break;
    case QUERY_BOOL:
        cell.boolean = v->boolean;
        break;
    case QUERY_TEXT:
        rc = query_rows_put_text(r, v->text, &cell.text);
        break;
    }
    rc = rc ? rc : strbuf_append(&r->cells, (const char *)&cell, sizeof cell);
    if (rc) {
        return err_set(e, rc, "out of memory");
    }
    r->bytes += cost;
    if (++r->filled == r->columns) {
        r->filled = 0;
        r->rows++;
    }
    return 0;
}

static struct slice query_rows_text_of(const struct query_rows *r, struct slice_at s)
{
    return slice_of(r->text.data ? r->text.data + s.at : "", s.n);
}

struct slice query_rows_name(const struct query_rows *r, size_t column)
{
    REQUIRE(column < r->columns);
    return query_rows_text_of(r, r->names[column]);
}

struct query_value query_rows_cell(const struct query_rows *r, size_t row, size_t column)
{
    struct query_cell cell;
    REQUIRE(row < r->rows && column < r->columns);
    memcpy(&cell, r->cells.data + (row * r->columns + column) * sizeof cell, sizeof cell);
    struct query_value v = {.type = cell.type};
    switch (cell.type) {
    case QUERY_NULL:
        break;
    case QUERY_INTEGER:
        v.integer = cell.integer;
        break;
    case QUERY_NUMBER:
        v.number = cell.number;
        break;
    case QUERY_BOOL:
        v.boolean = cell.boolean;
        break;
    case QUERY_TEXT:
        v.text = query_rows_text_of(r, cell.text);
        break;
    }
    return v;
}
