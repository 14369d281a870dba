#include "presence/presence.h"

#include "base/alloc.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/log_pace.h"
#include "base/logging.h"
#include "base/require.h"
#include "base/strbuf.h"
#include "event/topic.h"

#include <limits.h>
#include <stdlib.h>

enum {
    BATCH = 1000, /* members that the store is told of in one transaction */
    AGAIN_MS = 1000,
    BEATS = 4, /* within a lease */
    BEAT_LEAST_MS = 1000,
    REFUSED_BEATS = 4, /* after so many a member that there was no topic for is tried again */
};

/* The store was told something, and may have taken it. */
#define TOLD_UNKNOWN UINT_MAX

struct presence_member {
    struct map_entry entry; /* by topic */
    struct list node;       /* in `due` or `refused`; in neither: nothing is to be said */
    struct deadline grace;  /* armed: no stream is open any more */
    struct presence *in;
    unsigned streams; /* granted */
    unsigned open;    /* of these */
    unsigned edition; /* of the data: grows when it changes */
    unsigned told;    /* the edition that the store has; 0: it has none; TOLD_UNKNOWN */
    bool sent;        /* the store is working on it */
    bool refused;     /* it was counted as such */
    uint8_t topic_n;
    uint32_t data_n;
    char *data;   /* owned */
    char topic[]; /* the key of the entry */
};

struct presence {
    struct loop *loop;
    struct presence_options opt;
    struct presence_metrics *metrics;
    struct store *store; /* NULL: not open yet */
    struct map members;
    struct hash_key key;
    struct list due, refused;
    struct task send;
    struct deadline beat, again;
    bool busy;     /* the store is working on `op` */
    bool beat_due; /* before anything else, but for... */
    bool turn;     /* ...changes that may go first, once: the last beat failed */
    bool known;    /* the store has a lease of this process */
    bool sweep;    /* with the next beat */
    bool waits;    /* for `again` */
    bool draining;
    bool parted; /* the store was told that this process ends... */
    bool ended;  /* ...and is told nothing more */
    unsigned beats;
    uint64_t beaten_ms;       /* loop time: the last beat that was taken */
    uint64_t spares_until_ms; /* loop time: others may be about to give a sign of life */
    size_t
        most; /* of the next batch: less after one that failed, so that one bad member fails alone */
    struct log_pace kept_pace, full_pace, topics_pace, failed_pace;

    struct store_presence op;
    struct presence_member *batch[BATCH];
    unsigned editions[BATCH]; /* told of each; 0: that it leaves */
    struct store_presence_change changes[BATCH];
    struct strbuf text; /* of them: the store reads it on another thread */
};

static void presence_on_send(struct task *t);
static void presence_on_beat(struct deadline *d);
static void presence_on_again(struct deadline *d);
static void presence_on_grace(struct deadline *d);

struct presence *presence_new(struct loop *loop, const struct presence_options *opt,
                              struct presence_metrics *metrics)
{
    struct presence *p = xcalloc(1, sizeof *p);
    p->loop = loop;
    p->opt = *opt;
    p->metrics = metrics;
    p->most = BATCH;
    hash_key_init(&p->key);
    list_init(&p->due);
    list_init(&p->refused);
    task_init(&p->send, presence_on_send);
    deadline_init(&p->beat);
    deadline_init(&p->again);
    strbuf_init(&p->text, SIZE_MAX);
    return p;
}

static void presence_forget(struct presence *p, struct presence_member *m)
{
    list_del(&m->node);
    deadline_disarm(&m->grace);
    map_del(&p->members, &m->entry);
    p->metrics->members--;
    free(m->data);
    free(m);
}

void presence_free(struct presence *p)
{
    if (!p) {
        return;
    }
    REQUIRE(!p->busy);
    task_cancel(&p->send);
    deadline_disarm(&p->beat);
    deadline_disarm(&p->again);
    while (!map_empty(&p->members)) {
        presence_forget(p, container_of(p->members.first, struct presence_member, entry));
    }
    strbuf_clear(&p->text);
    free(p);
}

/* ---------------------------------------------------------------- what the store is to be told */

static bool presence_is_there(const struct presence_member *m)
{
    return m->open > 0 || list_linked(&m->grace.node);
}

static void presence_wake(struct presence *p)
{
    if (!p->busy && !p->waits && p->store) {
        loop_defer(p->loop, &p->send);
    }
}

/* Something has changed about it. May free it. */
static void presence_look_at(struct presence *p, struct presence_member *m)
{
    bool there = presence_is_there(m);
    bool news = there ? m->told != m->edition : m->told != 0;
    if (m->sent) {
        return; /* looked at when the store has answered */
    }
    if (news && !list_linked(&m->node)) {
        list_add_tail(&p->due, &m->node);
        p->metrics->waiting++;
    } else if (!news && list_linked(&m->node)) {
        list_del(&m->node);
        p->metrics->waiting--;
    }
    if (!news && !there && m->streams == 0) {
        presence_forget(p, m);
    } else if (news) {
        presence_wake(p);
    }
}

static void presence_on_done(struct store_presence *op);

/* The store has answered, or did not take it. */
static void presence_later(struct presence *p, int rc)
{
    p->metrics->failed++;
    if (log_pace_take(&p->failed_pace, loop_now(p->loop))) {
        log_warn(
            "presence", "the store does not take who is there: it is told again",
            LOG_F(log_str("error", uv_strerror(rc)), log_uint("waiting", p->metrics->waiting)));
    }
    p->waits = true;
    deadline_arm(loop_deadline_class(p->loop, AGAIN_MS, presence_on_again), &p->again);
}

static void presence_order(struct presence *p, enum store_presence_kind kind, size_t n)
{
    p->op = (struct store_presence){.kind = kind,
                                    .v = p->changes,
                                    .n = n,
                                    .grace_ms = p->opt.grace_ms,
                                    .lease_ms = p->opt.lease_ms,
                                    .spare = !p->sweep,
                                    .done = presence_on_done,
                                    .ctx = p};
    p->busy = true;
    int rc = p->store->ops->presence(p->store, &p->op);
    if (rc) {
        p->op.rc = rc;
        presence_on_done(&p->op);
    }
}

static void presence_send_changes(struct presence *p)
{
    size_t n = 0, at = 0;
    strbuf_reset(&p->text);
    while (n < p->most && !list_empty(&p->due)) {
        struct presence_member *m = list_first(&p->due, struct presence_member, node);
        bool there = presence_is_there(m);
        list_del(&m->node);
        m->sent = true;
        p->batch[n] = m;
        p->editions[n] = there ? m->edition : 0;
        p->changes[n] =
            (struct store_presence_change){.topic.n = m->topic_n, .data.n = there ? m->data_n : 0};
        REQUIRE(strbuf_append(&p->text, m->topic, m->topic_n) == 0);
        REQUIRE(!there || strbuf_append(&p->text, m->data, m->data_n) == 0);
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        struct store_presence_change *c = &p->changes[i];
        c->topic.p = p->text.data + at;
        c->data.p = c->topic.p + c->topic.n;
        at += c->topic.n + c->data.n;
    }
    presence_order(p, STORE_PRESENCE_CHANGE, n);
}

static void presence_on_send(struct task *t)
{
    struct presence *p = container_of(t, struct presence, send);
    if (p->busy || p->waits || p->ended || !p->store) {
        return;
    }
    bool turn = p->turn && p->known && !list_empty(&p->due);
    p->turn = false;
    if (p->draining && !p->parted && list_empty(&p->due)) {
        p->parted = true;
        presence_order(p, STORE_PRESENCE_END, 0);
    } else if (p->beat_due && !p->draining && !turn) {
        p->beat_due = false;
        presence_order(p, STORE_PRESENCE_BEAT, 0);
    } else if (!list_empty(&p->due) && p->known) {
        presence_send_changes(p);
    }
}

static void presence_on_again(struct deadline *d)
{
    struct presence *p = container_of(d, struct presence, again);
    p->waits = false;
    presence_wake(p);
}

/* ---------------------------------------------------------------- what it has answered */

static void presence_note_refused(struct presence *p, struct presence_member *m, int rc)
{
    if (!m->refused) {
        m->refused = true;
        p->metrics->topics_full += rc == 0;
    }
    if (rc == 0 && log_pace_take(&p->topics_pace, loop_now(p->loop))) {
        log_warn("presence",
                 "a member is not announced: there are as many topics as store.latest_topics lets",
                 LOG_F(log_slice("topic", presence_topic(m))));
    }
}

static void presence_take_change(struct presence *p, struct presence_member *m, unsigned told,
                                 int rc, bool refused)
{
    m->sent = false;
    m->told = rc ? TOLD_UNKNOWN : refused ? 0 : told;
    if (refused && (rc || presence_is_there(m))) {
        presence_note_refused(p, m, rc);
        list_add_tail(&p->refused, &m->node); /* presence_on_beat() has it tried again */
        p->metrics->waiting++;
    } else {
        m->refused = m->refused && rc;
        presence_look_at(p, m);
    }
}

static void presence_take_changes(struct presence *p, const struct store_presence *op)
{
    bool own = op->rc == UV_EIO || op->rc == UV_EINVAL; /* it may be that of a member */
    bool alone = own && op->n == 1;
    p->metrics->waiting -= op->n;
    p->most = own && op->n > 1 ? op->n / 2 : op->rc == 0 && p->most < BATCH ? p->most * 2 : p->most;
    p->most = p->most < BATCH ? p->most : BATCH;
    for (size_t i = 0; i < op->n; i++) {
        bool refused = op->rc ? alone : p->changes[i].refused;
        presence_take_change(p, p->batch[i], p->editions[i], op->rc, refused);
    }
}

void presence_renew(struct presence *p)
{
    for (struct map_entry *e = p->members.first, *next; e; e = next) {
        struct presence_member *m = container_of(e, struct presence_member, entry);
        next = map_next(e);
        m->edition = m->edition == m->told ? m->edition + 1 : m->edition;
        presence_look_at(p, m);
    }
}

/* May those be taken for gone that gave no sign of life in time? Not when this process was itself away for so long that
 * leases of others may have run out, for the store may have been away from all, or its clock have leapt: then each has
 * a lease to say that it is there. At first, after what may have been the end of all, they have the grace. */
static bool presence_may_sweep(struct presence *p, const struct store_presence *op)
{
    uint64_t now = loop_now(p->loop);
    if (!p->known) {
        p->spares_until_ms = now + p->opt.grace_ms;
    } else if (op->lost || now - p->beaten_ms > p->opt.lease_ms / 2) {
        p->spares_until_ms = now + p->opt.lease_ms;
    }
    p->beaten_ms = now;
    return now >= p->spares_until_ms;
}

/* Others took this process for gone, and may have said so of its members. */
static void presence_take_beat(struct presence *p, const struct store_presence *op)
{
    bool may_sweep = presence_may_sweep(p, op);
    p->metrics->swept += op->swept;
    p->metrics->unsaid += op->refused;
    if (op->swept) {
        log_info("presence", "members left whose broker is gone",
                 LOG_F(log_uint("members", op->swept)));
    }
    if (op->lost && p->known && !map_empty(&p->members)) {
        p->metrics->lost++;
        log_warn("presence",
                 "this broker was away for longer than its lease: its members are announced anew",
                 LOG_F(log_uint("members", map_count(&p->members)),
                       log_uint("lease_s", p->opt.lease_ms / 1000)));
        presence_renew(p);
    }
    p->known = true;
    p->sweep = op->more || (op->late && may_sweep);
    p->beat_due = p->beat_due || p->sweep;
}

static void presence_on_done(struct store_presence *op)
{
    struct presence *p = op->ctx;
    p->busy = false;
    p->metrics->joined += op->rc ? 0 : op->joined;
    p->metrics->left += op->rc ? 0 : op->left;
    if (op->kind == STORE_PRESENCE_CHANGE) {
        presence_take_changes(p, op);
    } else if (op->kind == STORE_PRESENCE_END) {
        p->ended = op->rc != UV_ENOTSUP; /* until others see the end requests may be waited for */
    } else if (op->rc == 0) {
        presence_take_beat(p, op);
    }
    if (op->rc == UV_ESRCH) { /* the lease has run out; where it drains, the others say the rest */
        p->beat_due = true;
        p->ended = p->draining;
    } else if (op->rc && op->rc != UV_ECANCELED && op->kind != STORE_PRESENCE_END) {
        p->turn = op->kind == STORE_PRESENCE_BEAT;
        p->beat_due = p->beat_due || p->turn;
        presence_later(p, op->rc);
    }
    if (op->rc != UV_ECANCELED) {
        presence_wake(p);
    }
}

/* ---------------------------------------------------------------- time */

static void presence_arm_beat(struct presence *p)
{
    uint64_t lease = p->opt.lease_ms / BEATS, grace = p->opt.grace_ms / 2;
    uint64_t ms = lease < grace ? lease : grace;
    deadline_arm(
        loop_deadline_class(p->loop, ms > BEAT_LEAST_MS ? ms : BEAT_LEAST_MS, presence_on_beat),
        &p->beat);
}

static void presence_on_beat(struct deadline *d)
{
    struct presence *p = container_of(d, struct presence, beat);
    p->beat_due = true;
    if (++p->beats % REFUSED_BEATS == 0) {
        list_splice_tail(&p->due, &p->refused);
    }
    presence_wake(p);
    presence_arm_beat(p);
}

static void presence_arm_grace(struct presence_member *m)
{
    deadline_arm(loop_deadline_class(m->in->loop, m->in->opt.grace_ms, presence_on_grace),
                 &m->grace);
}

static void presence_on_grace(struct deadline *d)
{
    struct presence_member *m = container_of(d, struct presence_member, grace);
    if (m->streams > 0 && m->in->opt.grace_ms > 0) { /* one is about to open: it has come back */
        presence_arm_grace(m);
    } else {
        presence_look_at(m->in, m);
    }
}

void presence_set_store(struct presence *p, struct store *store)
{
    p->store = store;
    if (p->opt.kept_count) { /* else there can be no member */
        p->beat_due = true;
        presence_wake(p);
        presence_arm_beat(p);
    }
}

void presence_stop(struct presence *p)
{
    p->store = NULL;
    deadline_disarm(&p->beat);
    deadline_disarm(&p->again);
}

void presence_drain(struct presence *p)
{
    p->draining = true;
    deadline_disarm(&p->beat);
    presence_wake(p);
}

/* ---------------------------------------------------------------- streams */

static struct presence_member *presence_find(const struct presence *p, struct slice topic,
                                             unsigned *hash)
{
    *hash = (unsigned)hash_bytes(&p->key, topic.p, topic.n);
    struct map_entry *e = map_find(&p->members, topic, *hash);
    return e ? container_of(e, struct presence_member, entry) : NULL;
}

int presence_may_join(struct presence *p, struct slice topic)
{
    unsigned hash;
    bool kept = false;
    for (size_t i = 0; i < p->opt.kept_count && !kept; i++) {
        kept = topic_match(slice_str(p->opt.kept[i]), topic);
    }
    if (!kept) {
        p->metrics->not_kept++;
        if (log_pace_take(&p->kept_pace, loop_now(p->loop))) {
            log_error(
                "presence",
                "subscribe: presence needs its topics in store.latest: name a pattern that matches, and restart",
                LOG_F(log_slice("topic", topic)));
        }
        return UV_ENOTSUP;
    }
    if (map_count(&p->members) >= p->opt.members && !presence_find(p, topic, &hash)) {
        p->metrics->full++;
        if (log_pace_take(&p->full_pace, loop_now(p->loop))) {
            log_warn("presence",
                     "a stream is refused: there are as many members as presence.members lets",
                     LOG_F(log_slice("topic", topic), log_uint("members", p->opt.members)));
        }
        return UV_ENOBUFS;
    }
    return 0;
}

struct presence_member *presence_join(struct presence *p, struct slice topic)
{
    unsigned hash;
    struct presence_member *m = presence_find(p, topic, &hash);
    if (!m) {
        m = xcalloc(1, sizeof *m + topic.n + 1);
        m->in = p;
        list_init(&m->node);
        deadline_init(&m->grace);
        memcpy(m->topic, topic.p, topic.n);
        m->topic_n = (uint8_t)topic.n;
        REQUIRE(map_add(&p->members, &m->entry, presence_topic(m), hash));
        p->metrics->members++;
    }
    m->streams++;
    return m;
}

void presence_open(struct presence_member *m, struct slice data)
{
    m->open++;
    deadline_disarm(&m->grace);
    if (!m->data || !slice_eq(slice_of(m->data, m->data_n), data)) {
        free(m->data);
        m->data = xstrndup(data.p, data.n);
        m->data_n = (uint32_t)data.n;
        m->edition++;
    }
    presence_look_at(m->in, m);
}

void presence_leave(struct presence_member *m, bool opened)
{
    m->streams--;
    m->open -= opened;
    if (opened && m->open == 0) {
        presence_arm_grace(m);
    }
    presence_look_at(m->in, m);
}

struct slice presence_topic(const struct presence_member *m)
{
    return slice_of(m->topic, m->topic_n);
}
