#include "admin/metrics/metrics_sum.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAMILIES_MAX = 256, SERIES_MAX = 2048, LINE_MAX_BYTES = 1024 };

enum rule { RULE_SUM, RULE_MAX, RULE_MIN };

struct family {
    char *name, *kind, *help; /* owned */
    enum rule rule;
    bool grows; /* a counter or a histogram */
};

struct sample {
    double value; /* of the last page of this process that had it */
    double base;  /* of a counter: what predecessors of the process counted */
    bool present; /* in this scrape */
};

struct series {
    char *name; /* with labels; owned */
    unsigned family;
    struct sample *samples; /* one per worker; owned */
};

struct metrics_sum {
    unsigned workers;
    double *started; /* of each worker: when its process did, by its last page; owned */
    struct family families[FAMILIES_MAX];
    struct series series[SERIES_MAX];
    unsigned family_count, series_count;
    unsigned hint; /* pages have the same order: where the next series probably is */
};

struct metrics_sum *metrics_sum_new(unsigned workers)
{
    struct metrics_sum *m = xcalloc(1, sizeof *m);
    m->workers = workers;
    m->started = xcalloc(workers, sizeof *m->started);
    return m;
}

void metrics_sum_free(struct metrics_sum *m)
{
    for (unsigned i = 0; i < m->family_count; i++) {
        free(m->families[i].name);
        free(m->families[i].kind);
        free(m->families[i].help);
    }
    for (unsigned i = 0; i < m->series_count; i++) {
        free(m->series[i].name);
        free(m->series[i].samples);
    }
    free(m->started);
    free(m);
}

void metrics_sum_begin(struct metrics_sum *m)
{
    for (unsigned i = 0; i < m->series_count; i++) {
        for (unsigned w = 0; w < m->workers; w++) {
            m->series[i].samples[w].present = false;
        }
    }
}

/* The word up to the next space; moves `*at` behind it. */
static struct slice word(const char **at)
{
    const char *start = *at;
    size_t n = strcspn(start, " ");
    *at = start + n + (start[n] == ' ');
    return slice_of(start, n);
}

static struct family *find_family(struct metrics_sum *m, struct slice name)
{
    for (unsigned i = 0; i < m->family_count; i++) {
        if (slice_is(name, m->families[i].name)) {
            return &m->families[i];
        }
    }
    if (m->family_count == FAMILIES_MAX) {
        return NULL;
    }
    struct family *f = &m->families[m->family_count++];
    f->name = xstrndup(name.p, name.n);
    return f;
}

/* "# HELP name text", "# TYPE name kind", "# RULE name max" (or min; there is none for a sum) */
static struct family *take_comment(struct metrics_sum *m, const char *line)
{
    const char *at = line + 2;
    struct slice what = word(&at);
    struct family *f = find_family(m, word(&at));
    if (f && slice_is(what, "HELP") && !f->help) {
        f->help = xstrdup(at);
    } else if (f && slice_is(what, "TYPE") && !f->kind) {
        f->kind = xstrdup(at);
        f->grows = strcmp(at, "counter") == 0 || strcmp(at, "histogram") == 0;
    } else if (f && slice_is(what, "RULE")) {
        f->rule = strcmp(at, "max") == 0 ? RULE_MAX : strcmp(at, "min") == 0 ? RULE_MIN : RULE_SUM;
    }
    return f;
}

static struct series *find_series(struct metrics_sum *m, struct slice name, unsigned family)
{
    for (unsigned n = 0; n < m->series_count; n++) {
        unsigned i = (m->hint + n) % m->series_count;
        if (slice_is(name, m->series[i].name)) {
            m->hint = i + 1;
            return &m->series[i];
        }
    }
    if (m->series_count == SERIES_MAX) {
        return NULL;
    }
    struct series *s = &m->series[m->series_count++];
    s->name = xstrndup(name.p, name.n);
    s->family = family;
    s->samples = xcalloc(m->workers, sizeof *s->samples);
    return s;
}

/* "name value" or "name{labels} value"; a label's text may hold spaces, the value does not. */
static void metrics_sum_take_sample(struct metrics_sum *m, unsigned index, const char *line,
                                    unsigned family)
{
    const char *space = strrchr(line, ' ');
    char *end;
    if (!space) {
        return;
    }
    double value = strtod(space + 1, &end);
    struct series *s = find_series(m, slice_of(line, (size_t)(space - line)), family);
    if (end == space + 1 || *end || !s) {
        return;
    }
    struct sample *sample = &s->samples[index];
    sample->value = value;
    sample->present = true;
}

/* When the process of this page started; 0: it does not say. */
static double started(struct slice page)
{
    static const char name[] = "\nprocess_start_time_seconds ";
    const char *at = page.n ? memmem(page.p, page.n, name, sizeof name - 1) : NULL;
    char text[32] = "";
    if (at) {
        at += sizeof name - 1;
        size_t n = (size_t)(page.p + page.n - at);
        n = n < sizeof text - 1 ? n : sizeof text - 1;
        memcpy(text, at, n);
    }
    return strtod(text, NULL); /* stops at the end of the line */
}

/* Another process than that of the last page counts from 0. */
static void meet_process(struct metrics_sum *m, unsigned index, double start)
{
    bool other = m->started[index] > 0 && start != m->started[index];
    for (unsigned i = 0; i < m->series_count && other; i++) {
        struct sample *s = &m->series[i].samples[index];
        if (m->families[m->series[i].family].grows) {
            s->base += s->value;
            s->value = 0;
        }
    }
    m->started[index] = start;
}

void metrics_sum_add(struct metrics_sum *m, unsigned index, struct slice page)
{
    double start = started(page);
    if (start > 0) {
        meet_process(m, index, start);
    }
    struct family *family = NULL;
    const char *at = page.p, *end = page.p + page.n;
    m->hint = 0;
    while (at < end) {
        char line[LINE_MAX_BYTES];
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((stop ? stop : end) - at);
        if (n > 0 && n < sizeof line) {
            memcpy(line, at, n);
            line[n] = '\0';
            if (strncmp(line, "# ", 2) == 0) {
                family = take_comment(m, line);
            } else if (family) {
                metrics_sum_take_sample(m, index, line, (unsigned)(family - m->families));
            }
        }
        at += n + 1;
    }
}

/* What a worker adds: a counter also when it did not answer. False: nothing. */
static bool amount(const struct family *f, const struct sample *s, double *out)
{
    *out = s->base + s->value;
    return s->present || f->grows;
}

static int put_total(const struct metrics_sum *m, const struct series *s, struct strbuf *out)
{
    const struct family *f = &m->families[s->family];
    double total = 0, value;
    bool any = false;
    for (unsigned i = 0; i < m->workers; i++) {
        if (!amount(f, &s->samples[i], &value)) {
            continue;
        }
        if (f->rule == RULE_SUM) {
            total += value;
        } else if (!any || (f->rule == RULE_MAX ? value > total : value < total)) {
            total = value;
        }
        any = true;
    }
    return any ? strbuf_printf(out, "%s %.15g\n", s->name, total) : 0;
}

static int put_each(const struct metrics_sum *m, const struct series *s, struct strbuf *out)
{
    const struct family *f = &m->families[s->family];
    bool ours = strncmp(s->name, "tidegate_", 9) == 0;
    const char *name = ours ? s->name + 9 : s->name;
    double value;
    int rc = strbuf_printf(out, "# HELP tidegate_worker_%s Of each worker: %s\n", name, f->help);
    rc = rc ? rc : strbuf_printf(out, "# TYPE tidegate_worker_%s %s\n", name, f->kind);
    for (unsigned i = 0; i < m->workers && rc == 0; i++) {
        if (amount(f, &s->samples[i], &value)) {
            rc =
                strbuf_printf(out, "tidegate_worker_%s{worker=\"%u\"} %.15g\n", name, i + 1, value);
        }
    }
    return rc;
}

int metrics_sum_render(const struct metrics_sum *m, struct strbuf *out)
{
    int rc = 0;
    for (unsigned i = 0; i < m->family_count && rc == 0; i++) {
        const struct family *f = &m->families[i];
        if (!f->kind || !f->help) {
            continue;
        }
        rc = strbuf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->kind);
        for (unsigned j = 0; j < m->series_count && rc == 0; j++) {
            rc = m->series[j].family == i ? put_total(m, &m->series[j], out) : 0;
        }
    }
    for (unsigned j = 0; j < m->series_count && rc == 0; j++) {
        const struct series *s = &m->series[j];
        const struct family *f = &m->families[s->family];
        bool plain = f->kind && f->help && strcmp(f->name, s->name) == 0;
        rc = plain ? put_each(m, s, out) : 0;
    }
    return rc;
}
