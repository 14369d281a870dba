/* The queue in front of the reading connections: at most SQLITE_READERS at work at a time. */
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/require.h"
#include "store/sqlite/store_sqlite_state.h"

#include <stdlib.h>

static void sqlite_reads_start_next(struct store_sqlite *s);

bool sqlite_reads_idle(const struct store_sqlite *s)
{
    for (int i = 0; i < SQLITE_READERS; i++) {
        if (s->readers[i].job) {
            return false;
        }
    }
    return list_empty(&s->reads) && list_empty(&s->behind);
}

static void sqlite_reads_answer_page(struct store_sqlite *s, struct sqlite_read *r)
{
    latency_add(&s->metrics->store_read, (uv_hrtime() - r->started_ns) / 1000);
    if (r->rc) {
        r->page_cb(r->ctx, r->token, r->rc, NULL);
        return;
    }
    struct store_page page = {
        .events = r->events.v, .n = r->events.n, .upto = r->upto, .trimmed = r->trimmed};
    r->page_cb(r->ctx, r->token, 0, &page);
}

/* Part of the count came in: the next part queues behind the questions of subscribers. */
static void sqlite_reads_take_count(struct store_sqlite *s, const struct sqlite_read *r)
{
    if (r->rc || s->closing) {
        s->counting = false; /* stays unknown; retention waits for the next count */
        return;
    }
    s->rows += r->value;
    if (r->value < SQLITE_COUNT_ROWS || r->upto >= s->count_upto) {
        s->counting = false;
        s->counted = true;
        s->retain_due = true;
        sqlite_jobs_start_next(s);
        return;
    }
    struct sqlite_read *next = xcalloc(1, sizeof *next);
    next->kind = SQLITE_READ_COUNT;
    next->query = (struct store_query){.after = r->upto, .upto = s->count_upto};
    sqlite_reads_push(s, next);
}

static void sqlite_reads_complete(struct store_sqlite *s, struct sqlite_read *r)
{
    bool later = r->rc == UV_EAGAIN; /* only the newest events are */
    if (r->rc && !later) {
        s->metrics->store_errors++;
        store_sqlite_fault(s, SQLITE_FAULT_READ, &r->error);
    } else {
        store_sqlite_well(s, SQLITE_FAULT_READ);
    }
    if (!r->query.latest) { /* else they are out of order, and known from the tail */
        store_sqlite_rejects(s, &r->rejects, false);
    }
    switch (r->kind) {
    case SQLITE_READ_PAGE:
        sqlite_reads_answer_page(s, r);
        break;
    case SQLITE_READ_SEEK:
        r->seek_cb(r->ctx, r->token, r->rc, r->rc ? 0 : r->value);
        break;
    case SQLITE_READ_COUNT:
        sqlite_reads_take_count(s, r);
        break;
    }
    event_list_clear(&r->events);
    free(r->topics);
    free(r);
}

static void sqlite_reads_on_pool(uv_work_t *work)
{
    struct sqlite_reader *reader = container_of(work, struct sqlite_reader, work);
    sqlite_read_run(&reader->db, reader->job);
}

static void sqlite_reads_on_done(uv_work_t *work, int status)
{
    struct sqlite_reader *reader = container_of(work, struct sqlite_reader, work);
    struct store_sqlite *s = work->data;
    struct sqlite_read *r = reader->job;
    (void)status; /* the work is never cancelled */
    reader->job = NULL;
    if (r->rc == UV_EAGAIN) {
        list_add_tail(&s->behind, &r->node);
        s->fold_due = true;
        sqlite_jobs_start_next(s);
    } else {
        sqlite_reads_complete(s, r);
    }
    sqlite_reads_start_next(s);
    if (s->closing) {
        sqlite_jobs_start_next(s);
    }
}

static void sqlite_reads_start_next(struct store_sqlite *s)
{
    for (int i = 0; i < SQLITE_READERS && !list_empty(&s->reads); i++) {
        struct sqlite_reader *reader = &s->readers[i];
        if (!reader->job) {
            reader->job = list_first(&s->reads, struct sqlite_read, node);
            list_del(&reader->job->node);
            reader->work.data = s;
            REQUIRE(uv_queue_work(s->loop, &reader->work, sqlite_reads_on_pool,
                                  sqlite_reads_on_done) == 0);
        }
    }
}

void sqlite_reads_on_fold(struct store_sqlite *s, bool done)
{
    if (done) { /* they look again */
        list_splice_tail(&s->reads, &s->behind);
        sqlite_reads_start_next(s);
    }
    while (!list_empty(&s->behind)) {
        struct sqlite_read *r = list_first(&s->behind, struct sqlite_read, node);
        list_del(&r->node);
        sqlite_reads_complete(s, r);
    }
}

void sqlite_reads_push(struct store_sqlite *s, struct sqlite_read *r)
{
    r->max_data = s->opt.event_bytes;
    r->started_ns = uv_hrtime();
    list_add_tail(&s->reads, &r->node);
    sqlite_reads_start_next(s);
}

void sqlite_reads_count(struct store_sqlite *s)
{
    struct sqlite_read *r = xcalloc(1, sizeof *r);
    s->rows = 0;
    s->counted = false;
    s->counting = true;
    s->count_upto = s->head;
    r->kind = SQLITE_READ_COUNT;
    r->query = (struct store_query){.after = 0, .upto = s->count_upto};
    sqlite_reads_push(s, r);
}
