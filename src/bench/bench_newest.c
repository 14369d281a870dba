#include "bench/bench_newest.h"

#include "base/alloc.h"

#include <stdlib.h>

void bench_newest_init(struct bench_sub *s)
{
    s->newest = xcalloc(s->b->o->topics, sizeof *s->newest);
}

void bench_newest_clear(struct bench_sub *s)
{
    free(s->newest);
}

static void bench_newest_live(struct bench_sub *s, uint64_t now)
{
    struct bench *b = s->b;
    if (b->o->mode == BENCH_SNAPSHOT && !s->live) {
        s->live = true;
        b->counts.replayed++;
        b->delivery_ns = now;
        bench_hist_add(&b->replay, now - s->asked_ns);
    }
}

void bench_newest_take(struct bench_sub *s, const struct bench_sse_event *ev, uint64_t now)
{
    struct bench *b = s->b;
    struct bench_counts *n = &b->counts;
    const struct bench_mark *m = &ev->mark;
    b->progress_ns = now;
    if (ev->live) {
        bench_newest_live(s, now);
        return;
    }
    if (ev->gap && b->o->mode == BENCH_CONFLATE) {
        b->slow.gaps++;
        return;
    }
    if (!ev->marked || m->run != b->run) {
        n->gaps += ev->gap;
        n->strange += !ev->gap;
        return;
    }
    if (m->topic >= b->o->topics) {
        n->misrouted++;
        return;
    }
    uint64_t sent = b->topics[m->topic].sent;
    if (m->seq >= sent || m->sent_ns > now) {
        n->damaged++;
        return;
    }
    n->damaged += ev->whole && ev->data_bytes != b->o->size;
    if (m->seq < s->newest[m->topic]) {
        n->doubled += m->seq + 1 == s->newest[m->topic];
        n->late += m->seq + 1 < s->newest[m->topic];
        return;
    }
    s->newest[m->topic] = m->seq + 1;
    n->stale += b->o->mode == BENCH_SNAPSHOT && m->seq + 1 != sent;
    if (s->slow) {
        b->slow.received++;
        return;
    }
    n->delivered++;
    b->delivery_ns = now;
    if (b->measuring && m->sent_ns >= b->from.at_ns) {
        bench_hist_add(&b->latency, now - m->sent_ns);
    }
}

uint64_t bench_newest_missing(const struct bench_sub *s)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < s->b->o->topics; i++) {
        n += s->newest[i] != s->b->topics[i].sent;
    }
    return n;
}
