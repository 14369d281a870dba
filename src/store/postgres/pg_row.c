/* See pg_row.h. */
#include "store/postgres/pg_row.h"

#include "event/event_row.h"
#include "pg/pg_client.h"

enum {
    INT64_DIGITS = 18, /* that many always fit */
    ATTRS_TEXT_MAX = 1 << 20,
};

static bool pg_row_in_number(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* jsonb writes 1e300 with all its digits; jansson takes digits without a point for an integer of 64
 * bits. So: a point where they are too many. */
static int pg_row_widen_integers(struct strbuf *out, struct slice json)
{
    bool in_string = false;
    int rc = 0;
    for (size_t i = 0; i < json.n && rc == 0;) {
        size_t from = i;
        if (!in_string && pg_row_in_number(json.p[i])) {
            bool integer = true;
            for (; i < json.n && pg_row_in_number(json.p[i]); i++) {
                integer = integer && json.p[i] != '.' && json.p[i] != 'e' && json.p[i] != 'E';
            }
            rc = strbuf_append(out, json.p + from, i - from);
            rc = rc || !integer || i - from <= INT64_DIGITS ? rc : strbuf_append(out, ".0", 2);
            continue;
        }
        if (in_string && json.p[i] == '\\' && i + 1 < json.n) {
            i++;
        } else if (json.p[i] == '"') {
            in_string = !in_string;
        }
        i++;
        rc = strbuf_append(out, json.p + from, i - from);
    }
    return rc;
}

/* PostgreSQL counts microseconds from 2000. */
static int64_t pg_row_unix_ms(int64_t pg_us)
{
    int64_t ms = pg_us / 1000 - (pg_us % 1000 < 0 ? 1 : 0);
    return ms + INT64_C(946684800000);
}

struct event *pg_row_event(const PGresult *res, int row, int first_column, size_t max_data,
                           const char **reason)
{
    int at = first_column;
    struct event_fields f = {
        .topic = pg_cell_text(res, row, at + 1),
        .type = pg_cell_text(res, row, at + 2),
        .data = pg_cell_text(res, row, at + 3),
        .attrs = pg_cell_text(res, row, at + 4),
        .key = pg_cell_text(res, row, at + 5),
        .time_ms = pg_row_unix_ms(pg_cell_int8(res, row, at + 6)),
        .expires_ms =
            PQgetisnull(res, row, at + 7) ? 0 : pg_row_unix_ms(pg_cell_int8(res, row, at + 7)),
    };
    struct strbuf wide;
    struct event *ev = NULL;
    strbuf_init(&wide, ATTRS_TEXT_MAX);
    if (f.attrs.p && pg_row_widen_integers(&wide, f.attrs)) {
        *reason = "attrs: are longer than 4096 bytes of JSON";
    } else {
        f.attrs = f.attrs.p ? strbuf_slice(&wide) : f.attrs;
        ev = event_from_row(&f, (uint64_t)pg_cell_int8(res, row, at), max_data, reason);
    }
    strbuf_clear(&wide);
    return ev;
}

void pg_row_put_patterns(struct pg_args *args, const struct store_latest *latest)
{
    pg_args_array_begin(args, PG_OID_TEXT, latest->n);
    for (size_t i = 0; i < latest->n; i++) {
        pg_args_array_text(args, slice_str(latest->patterns[i]));
    }
    pg_args_array_end(args);
}
