/* Pages of history and seeks, on connections of their own: many clients that resume at once queue
 * here, and do not delay the tail. */
#include "base/alloc.h"
#include "base/logging.h"
#include "base/require.h"
#include "store/postgres/pg_row.h"
#include "store/postgres/store_pg_state.h"

#include <limits.h>
#include <stdlib.h>

struct pg_read {
    struct store_pg *store;
    struct pg_client *client; /* it was asked on */
    struct store_query query;
    uint64_t known; /* the newest id delivered when it was asked */
    uint64_t leapt; /* s->leapt then */
    uint64_t started_ns, token;
    bool folding;        /* the page is asked behind that */
    uint64_t folded;     /* so far */
    struct pg_args page; /* owned, while `folding`: its arguments */
    store_page_cb page_cb;
    store_seek_cb seek_cb; /* both NULL: a probe, whose page nobody wants */
    void *ctx;
};

/* Bounded by bytes before it leaves the server: 1000 events may be a gigabyte. octet_length() does
 * not unpack large values. */
#define PAGE_SQL(trimmed, source)                                                                  \
    "SELECT " trimmed                                                                              \
    ", (SELECT h.seq FROM tidegate.head h), w.total, clock_timestamp(), w.at, " PG_ROW_SQL         \
    " FROM tidegate.retention r LEFT JOIN ("                                                       \
    "SELECT p.*, count(*) OVER () AS total, sum(p.cost) OVER (ORDER BY p.seq) AS used FROM ("      \
    "SELECT e.*, octet_length(e.data) + 256 AS cost FROM " source                                  \
    " ORDER BY e.seq LIMIT $3::bigint) p) w"                                                       \
    " ON w.used <= $4::bigint OR w.used = w.cost ORDER BY w.seq"

const struct pg_statement pg_page_statement = {
    "page",
    PAGE_SQL("r.trimmed", "tidegate.events e WHERE e.seq > $1::bigint AND e.seq <= $2::bigint")};

/* Each topic by its own index range, merged: what other topics hold costs nothing. */
static const struct pg_statement topic_page_statement = {
    "topic_page", PAGE_SQL("r.trimmed", "unnest($5::text[]) AS t(topic) CROSS JOIN LATERAL ("
                                        "SELECT * FROM tidegate.events x WHERE x.topic = t.topic"
                                        " AND x.seq > $1::bigint AND x.seq <= $2::bigint"
                                        " ORDER BY x.seq LIMIT $3::bigint) e")};

/* The newest of their topics, $6: of the topics that match, $5: what this broker's store.latest says. Few of many are
 * found by the index on topics: those that begin like one of $6 up to its first wildcard. Where there are more than
 * LATEST_FEW, each page would read them all: then the rows are read by id, whatever their topics, and the next page
 * goes on behind. */
#define LATEST_FEW "2000"
#define LATEST_IN_SQL                                                                              \
    "l.seq > $1::bigint AND l.seq <= $2::bigint"                                                   \
    " AND l.topic ~ (SELECT tidegate.topic_match($6::text[]))"
static const struct pg_statement latest_page_statement = {
    "latest_page",
    "WITH few AS MATERIALIZED (SELECT l.seq, l.topic FROM (SELECT split_part(p, '*', 1) AS lo,"
    " CASE WHEN strpos(p, '*') = 0 THEN p || chr(1) WHEN p LIKE '*%' THEN chr(1114111)"
    " ELSE left(split_part(p, '*', 1), -1) || '0' END AS hi FROM unnest($6::text[]) AS p) AS t,"
    " LATERAL (SELECT y.seq, y.topic FROM tidegate.latest y"
    " WHERE y.topic >= t.lo AND y.topic < t.hi LIMIT " LATEST_FEW " + 1) AS l LIMIT " LATEST_FEW
    " + 1) " PAGE_SQL(
        "CASE WHEN tidegate.latest_reached($5::text[], $2::bigint) THEN r.trimmed END",
        "(SELECT n.* FROM (SELECT DISTINCT l.topic FROM few l WHERE " LATEST_IN_SQL ") AS d,"
        " LATERAL (SELECT * FROM tidegate.latest y WHERE y.topic = d.topic LIMIT 1) AS n"
        " WHERE (SELECT count(*) FROM few) <= " LATEST_FEW
        " UNION ALL (SELECT l.* FROM tidegate.latest l"
        " WHERE (SELECT count(*) FROM few) > " LATEST_FEW " AND " LATEST_IN_SQL
        " ORDER BY l.seq LIMIT $3::bigint)) e")};

/* Before that: newest events are put where they are read, some at a time, for others wait meanwhile. */
static const struct pg_statement latest_fold_statement = {
    "latest_fold", "SELECT tidegate.latest_fold($1::text[], $2::bigint, 8192)"};

/* The plans of these: along an index, and in its order, up to the end of the page. Where the tables were not analyzed
 * lately the planner thinks that sorting all of them costs nothing. */
#define READ_SETUP PG_SETUP ";SET enable_seqscan = off; SET enable_bitmapscan = off;" PG_LINEAGE_SQL

static const struct pg_statement seek_statement = {
    "seek", "SELECT tidegate.seek(timestamptz 'epoch' + $1::bigint * interval '1 millisecond'),"
            " (SELECT h.seq FROM tidegate.head h)"};
enum { SEEK_HEAD = 1, PROBE_MS = 1000 };

static void pg_reads_on_probe(uv_timer_t *t);

/* ---------------------------------------------------------------- answers */

static int pg_reads_decode_page(struct store_pg *s, const PGresult *res, struct event_list *events,
                                uint64_t *last)
{
    int rows = PQntuples(res);
    for (int i = 0; i < rows && !PQgetisnull(res, i, PG_PAGE_ROW); i++) {
        const char *reason = NULL;
        struct event *ev = pg_row_event(res, i, PG_PAGE_ROW, s->opt.event_bytes, &reason);
        *last = (uint64_t)pg_cell_int8(res, i, PG_PAGE_ROW);
        if (ev) {
            event_list_push(events, ev);
        } else if (reason) {
            store_pg_bad_row(s, *last, reason);
        } else {
            return UV_ENOMEM;
        }
    }
    return 0;
}

static void pg_reads_answer_page(struct pg_read *r, const PGresult *res)
{
    struct store_pg *s = r->store;
    struct event_list events = {0};
    uint64_t last = r->query.after;
    int rc = pg_reads_decode_page(s, res, &events, &last);
    if (rc) {
        event_list_clear(&events);
        r->page_cb(r->ctx, r->token, rc, NULL);
        return;
    }
    int rows = last > r->query.after ? PQntuples(res) : 0;
    int64_t total = rows ? pg_cell_int8(res, 0, PG_PAGE_TOTAL) : 0;
    bool cut = rows < total || (uint64_t)total >= r->query.max_events;
    uint64_t head = (uint64_t)pg_cell_int8(res, 0, PG_PAGE_HEAD);
    struct store_page page = {.events = events.v,
                              .n = events.n,
                              .upto = cut ? last : (head < r->query.upto ? head : r->query.upto),
                              .trimmed = (uint64_t)pg_cell_int8(res, 0, PG_PAGE_TRIMMED)};
    r->page_cb(r->ctx, r->token, 0, &page);
    event_list_clear(&events);
}

static void pg_reads_free(struct pg_read *r)
{
    if (r->folding) {
        pg_args_clear(&r->page);
    }
    free(r);
}

static void pg_reads_answer_failure(struct pg_read *r, int rc)
{
    if (r->page_cb) {
        r->page_cb(r->ctx, r->token, rc, NULL);
    } else if (r->seek_cb) {
        r->seek_cb(r->ctx, r->token, rc, 0);
    }
}

/* From a server whose head is below what was delivered when it was asked, or from before a leap:
 * what is not in it may exist, and what is in it may not. */
static bool pg_reads_is_stale(struct pg_read *r, const PGresult *res)
{
    struct store_pg *s = r->store;
    uint64_t head = (uint64_t)pg_cell_int8(res, 0, r->seek_cb ? SEEK_HEAD : PG_PAGE_HEAD);
    if (head >= r->known && r->leapt == s->leapt) {
        return false;
    }
    s->metrics->store_stale_answers++;
    log_warn("store", "a read is not believed: another server, or state of the database, counts",
             LOG_F(log_uint("its_head", head), log_uint("delivered", r->known)));
    pg_client_drop(r->client, "it leads to a server that does not order any more");
    return true;
}

static void pg_reads_put_fold(struct pg_args *args, const struct store_pg *s, uint64_t upto)
{
    pg_args_init(args, 64 + s->opt.latest.n * (EVENT_TOPIC_MAX_BYTES + 8));
    pg_row_put_patterns(args, &s->opt.latest);
    pg_args_int8(args, (int64_t)upto);
}

/* Some are folded. Asks for the next ones, or for the page; where nothing was folded the page says why. */
static int pg_reads_on_folded(struct pg_read *r, const PGresult *res, uint64_t token,
                              pg_done_cb done)
{
    struct store_pg *s = r->store;
    uint64_t upto = (uint64_t)pg_cell_int8(res, 0, 0);
    bool more = upto > r->folded && upto < r->query.upto;
    r->folded = upto;
    if (more) {
        struct pg_args args;
        pg_reads_put_fold(&args, s, r->query.upto);
        return pg_client_ask(r->client, &latest_fold_statement, &args, done, s, token);
    }
    s->reads.folded = upto > s->reads.folded ? upto : s->reads.folded;
    r->folding = false;
    return pg_client_ask(r->client, &latest_page_statement, &r->page, done, s, token);
}

static void pg_reads_on_done(void *ctx, uint64_t token, const PGresult *res,
                             const struct pg_fault *f)
{
    const struct pg_fault lost = {.code = UV_ENOTCONN, .text = "the connection broke"};
    struct store_pg *s = ctx;
    struct pg_read *r = slots_get(&s->reads.asked, token);
    REQUIRE(r);
    if (r->folding && res && PQntuples(res) == 1) {
        if (pg_reads_on_folded(r, res, token, pg_reads_on_done) == 0) {
            return;
        }
        res = NULL;
        f = &lost;
    }
    slots_del(&s->reads.asked, token);
    latency_add(&s->metrics->store_read, (uv_hrtime() - r->started_ns) / 1000);
    if (f && (strcmp(f->sqlstate, PG_LATEST_NOT_READY) == 0 ||
              (r->folding && strcmp(f->sqlstate, PG_LOCKED) == 0))) {
        s->reads.folded = 0; /* where another state of the database counts, less may be */
        pg_reads_answer_failure(r, UV_EAGAIN);
    } else if (!res || PQntuples(res) < 1) {
        if (!s->closing) {
            s->metrics->store_errors++;
            store_pg_fault(s, STORE_PG_FAULT_READ, f ? f->code : UV_EIO, f ? f->text : "no row");
            REQUIRE(uv_timer_start(&s->reads.probe, pg_reads_on_probe, PROBE_MS, 0) == 0);
        }
        /* a read changes nothing: that it may have been carried out is no news */
        pg_reads_answer_failure(r,
                                !f ? UV_EIO : (f->code == UV_ECONNRESET ? UV_ENOTCONN : f->code));
    } else if (pg_reads_is_stale(r, res)) {
        pg_reads_answer_failure(r, UV_ENOTCONN);
    } else {
        store_pg_well(s, STORE_PG_FAULT_READ);
        if (r->page_cb) {
            pg_reads_answer_page(r, res);
        } else if (r->seek_cb) {
            r->seek_cb(r->ctx, r->token, 0, (uint64_t)pg_cell_int8(res, 0, 0));
        }
    }
    pg_reads_free(r);
    store_pg_settle(s);
}

/* ---------------------------------------------------------------- questions */

static struct pg_client *pg_reads_least_busy(const struct pg_reads *reads, unsigned n)
{
    struct pg_client *best = NULL;
    for (unsigned i = 0; i < n; i++) {
        struct pg_client *c = reads->clients[i];
        if (c && pg_client_takes(c) && (!best || pg_client_pending(c) < pg_client_pending(best))) {
            best = c;
        }
    }
    return best;
}

static int pg_reads_ask(struct store_pg *s, struct pg_read *r, const struct pg_statement *st,
                        struct pg_args *args)
{
    struct pg_client *c = pg_reads_least_busy(&s->reads, s->opt.history_connections);
    if (!c) {
        pg_args_clear(args);
        pg_reads_free(r);
        return UV_ENOTCONN;
    }
    r->started_ns = uv_hrtime();
    r->client = c;
    r->known = s->tail.last;
    r->leapt = s->leapt;
    uint64_t token = slots_add(&s->reads.asked, r);
    int rc = pg_client_ask(c, st, args, pg_reads_on_done, s, token);
    if (rc) {
        slots_del(&s->reads.asked, token);
        pg_reads_free(r);
    }
    return rc;
}

static void pg_reads_put_topics(struct pg_args *args, const struct store_query *q)
{
    pg_args_array_begin(args, PG_OID_TEXT, q->topic_count);
    for (size_t i = 0; i < q->topic_count; i++) {
        pg_args_array_text(args, q->topics[i]);
    }
    pg_args_array_end(args);
}

static int pg_reads_latest(struct store_pg *s, struct pg_read *r, struct pg_args *args)
{
    static const struct slice everything = {"**", 2};
    struct store_query q = r->query;
    if (q.topic_count == 0) {
        q.topics = &everything;
        q.topic_count = 1;
    }
    pg_row_put_patterns(args, &s->opt.latest);
    pg_reads_put_topics(args, &q);
    if (q.upto <= s->reads.folded) {
        return pg_reads_ask(s, r, &latest_page_statement, args);
    }
    r->folding = true;
    r->page = *args;
    struct pg_args fold;
    pg_reads_put_fold(&fold, s, q.upto);
    return pg_reads_ask(s, r, &latest_fold_statement, &fold);
}

int pg_reads_page(struct store_pg *s, const struct store_query *q, store_page_cb cb, void *ctx,
                  uint64_t token)
{
    struct pg_args args;
    struct pg_read *r = xcalloc(1, sizeof *r);
    *r = (struct pg_read){.store = s, .query = *q, .page_cb = cb, .ctx = ctx, .token = token};
    pg_args_init(&args, 256 + (1 + q->topic_count + s->opt.latest.n) * (EVENT_TOPIC_MAX_BYTES + 8));
    pg_args_int8(&args, (int64_t)q->after);
    pg_args_int8(&args, (int64_t)q->upto);
    pg_args_int8(&args, q->max_events < INT_MAX ? (int64_t)q->max_events : INT_MAX);
    pg_args_int8(&args, q->max_bytes < INT64_MAX ? (int64_t)q->max_bytes : INT64_MAX);
    if (q->latest) {
        return pg_reads_latest(s, r, &args);
    }
    if (q->topic_count == 0) {
        return pg_reads_ask(s, r, &pg_page_statement, &args);
    }
    pg_reads_put_topics(&args, q);
    return pg_reads_ask(s, r, &topic_page_statement, &args);
}

int pg_reads_seek(struct store_pg *s, int64_t unix_ms, store_seek_cb cb, void *ctx, uint64_t token)
{
    struct pg_args args;
    struct pg_read *r = xcalloc(1, sizeof *r);
    *r = (struct pg_read){.store = s, .seek_cb = cb, .ctx = ctx, .token = token};
    pg_args_init(&args, 64);
    pg_args_int8(&args, unix_ms);
    return pg_reads_ask(s, r, &seek_statement, &args);
}

/* Is what was wrong over? The newest event is read. */
static void pg_reads_on_probe(uv_timer_t *t)
{
    struct store_pg *s = t->data;
    uint64_t last = s->tail.last;
    const struct store_query q = {
        .after = last ? last - 1 : 0, .upto = last, .max_events = 1, .max_bytes = 1};
    if (!s->closing && s->faults[STORE_PG_FAULT_READ].code) {
        (void)pg_reads_page(s, &q, NULL, NULL, 0); /* no connection: the next one tells */
    }
}

/* ---------------------------------------------------------------- connections */

static void pg_reads_on_ready(void *ctx)
{
    store_pg_well(ctx, STORE_PG_FAULT_READ);
    store_pg_connected(ctx);
}

static void pg_reads_on_lost(void *ctx, const struct err *e)
{
    struct store_pg *s = ctx;
    if (!pg_reads_least_busy(&s->reads, s->opt.history_connections)) {
        store_pg_fault(s, STORE_PG_FAULT_READ, e->code, e->text);
    }
    store_pg_lost(s, e);
}

void pg_reads_start(struct store_pg *s)
{
    const struct pg_client_events events = {
        .refuse = store_pg_refuse, .ready = pg_reads_on_ready, .lost = pg_reads_on_lost};
    const struct pg_client_options opt = {.conninfo = &s->conninfo,
                                          .role = "history",
                                          .setup = READ_SETUP,
                                          .connect_timeout_ms = PG_CONNECT_MS,
                                          .answer_timeout_ms = PG_ANSWER_MS};
    slots_init(&s->reads.asked);
    REQUIRE(uv_timer_init(s->loop, &s->reads.probe) == 0);
    s->reads.probe.data = s;
    s->parts++;
    for (unsigned i = 0; i < s->opt.history_connections; i++) {
        s->reads.clients[i] = pg_client_new(s->loop, &opt, &events, s);
        s->parts++;
    }
}

void pg_reads_close(struct store_pg *s)
{
    uv_close((uv_handle_t *)&s->reads.probe, store_pg_timer_closed);
    for (unsigned i = 0; i < s->opt.history_connections; i++) {
        pg_client_close(s->reads.clients[i], store_pg_part_closed, s);
    }
}

bool pg_reads_idle(const struct store_pg *s)
{
    for (unsigned i = 0; i < s->opt.history_connections; i++) {
        if (pg_client_pending(s->reads.clients[i])) {
            return false;
        }
    }
    return true;
}
