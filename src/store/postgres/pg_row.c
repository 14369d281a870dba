/* See pg_row.h. */
#include "store/postgres/pg_row.h"

#include "event/envelope.h"
#include "pg/pg_client.h"

#include <jansson.h>

enum {
    INT64_DIGITS = 18, /* that many always fit */
    ATTRS_TEXT_MAX = 1 << 20,
};

static bool in_number(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* jsonb writes 1e300 with all its digits; jansson takes digits without a point for an integer of 64
 * bits. So: a point where they are too many. */
static int widen_integers(struct strbuf *out, struct slice json)
{
    bool in_string = false;
    int rc = 0;
    for (size_t i = 0; i < json.n && rc == 0;) {
        size_t from = i;
        if (!in_string && in_number(json.p[i])) {
            bool integer = true;
            for (; i < json.n && in_number(json.p[i]); i++) {
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

static const char *canonical_attrs(struct event_fields *f, struct strbuf *out)
{
    struct strbuf wide;
    const char *bad = "attrs: are longer than 4096 bytes of JSON";
    if (!f->attrs.p) {
        return NULL;
    }
    strbuf_init(&wide, ATTRS_TEXT_MAX);
    if (widen_integers(&wide, f->attrs) == 0) {
        json_t *parsed = json_loadb(wide.data, wide.len, JSON_REJECT_DUPLICATES, NULL);
        bad = parsed ? envelope_attrs(parsed, out) : "attrs: are not valid JSON";
        json_decref(parsed);
    }
    strbuf_clear(&wide);
    f->attrs = strbuf_slice(out);
    return bad;
}

/* PostgreSQL counts microseconds from 2000. */
static int64_t unix_ms(int64_t pg_us)
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
        .time_ms = unix_ms(pg_cell_int8(res, row, at + 6)),
    };
    struct strbuf attrs;
    struct event *ev = NULL;
    strbuf_init(&attrs, EVENT_ATTRS_MAX_BYTES);
    *reason = canonical_attrs(&f, &attrs);
    *reason = *reason ? *reason : event_check(&f, max_data);
    if (!*reason) {
        ev = event_new(&f);
        if (ev) {
            ev->id = (uint64_t)pg_cell_int8(res, row, at);
        }
    }
    strbuf_clear(&attrs);
    return ev;
}
