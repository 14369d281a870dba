#include "reload/policy_rollback.h"

static struct policy_count count_of(const struct policy_figures *f)
{
    return (struct policy_count){f->calls, f->errors};
}

void policy_rollback_sample(struct policy_rollback *h, const struct policy_figures *f)
{
    h->ring[h->next] = count_of(f);
    h->next = (h->next + 1) % POLICY_ROLLBACK_SAMPLES;
    h->n += h->n < POLICY_ROLLBACK_SAMPLES;
    h->watched_s -= h->watched_s > 0;
}

void policy_rollback_swap(struct policy_rollback *h, const struct policy_figures *now,
                          const struct policy_figures *next, unsigned watched_s)
{
    unsigned oldest = h->n < POLICY_ROLLBACK_SAMPLES ? 0 : h->next;
    struct policy_count from = h->n ? h->ring[oldest] : (struct policy_count){0, 0};
    struct policy_count before = {now->calls - from.calls, now->errors - from.errors};
    *h = (struct policy_rollback){
        .taken_over = count_of(next), .before = before, .watched_s = watched_s};
}

bool policy_rollback_due(const struct policy_rollback *h, const struct policy_figures *f)
{
    uint64_t calls = f->calls - h->taken_over.calls;
    uint64_t errors = f->errors - h->taken_over.errors;
    if (h->watched_s == 0 || errors <= POLICY_ROLLBACK_MOST_ERRORS) {
        return false;
    }
    double before = h->before.calls ? (double)h->before.errors / (double)h->before.calls : 0;
    double after = calls ? (double)errors / (double)calls : 1;
    return after > POLICY_ROLLBACK_FACTOR * before;
}
