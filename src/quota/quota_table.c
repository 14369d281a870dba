/* See quota_table.h. Indices begin at 1; 0 is none. Lists go through places by index, because
 * processes map the memory at different addresses. */
#include "quota/quota_table.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "quota/shared_lock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    OWNERS = 4 * QUOTA_WORKERS, /* processes: workers, and those they replace */
    SCAN_KEYS = 4096,           /* looked at while the lock is held once */
};

/* A process. */
struct quota_owner {
    atomic_int pid;     /* 0: nobody */
    atomic_bool ended;  /* by the supervisor: see quota_table_process_ended() */
    atomic_uint to_end; /* streams in the list */
    uint32_t number;
    uint32_t first, last; /* places of streams that are to end */
};

struct quota_key {
    uint32_t refs;           /* places that name it; 0: free */
    uint32_t streams;        /* of these, those that count */
    uint32_t oldest, newest; /* of those */
    uint32_t chain;          /* the next one in its bucket, or in the list of free ones */
    uint32_t max, denied;
    uint32_t bytes;
    char text[QUOTA_KEY_MAX_BYTES];
};

/* That a stream counts for a key. `owner` is written last when one is taken, and first when it is
 * given back. */
struct quota_place {
    atomic_uint owner;  /* 0: free */
    atomic_bool to_end; /* it does not count any more: its stream is to end */
    uint32_t key;
    uint64_t stream;
    uint64_t since;        /* order in which places were taken */
    uint32_t older, newer; /* in the list of its key, or of its owner; free: newer is the next */
};

struct quota_table {
    struct shared_lock lock;
    uint32_t capacity, buckets; /* buckets: a power of two */
    struct hash_key hash;
    atomic_uint places_used, keys_used;
    uint32_t free_places, free_keys;   /* lists */
    uint32_t fresh_places, fresh_keys; /* those above were never used */
    uint64_t since;                    /* of the place taken last */
    atomic_uint deaths;                /* processes that have ended */
    atomic_uint buried;                /* of these, those whose places were given back */
    struct quota_owner owners[OWNERS];
};

/* ---------------------------------------------------------------- the layout */

static uint32_t *quota_buckets(struct quota_table *t)
{
    return (uint32_t *)(void *)(t + 1);
}

static size_t quota_bucket_bytes(uint32_t buckets)
{
    return ((size_t)buckets * sizeof(uint32_t) + 63) / 64 * 64;
}

static struct quota_key *quota_key(struct quota_table *t, uint32_t i)
{
    char *keys = (char *)(t + 1) + quota_bucket_bytes(t->buckets);
    return (struct quota_key *)(void *)keys + (i - 1);
}

static struct quota_place *quota_place(struct quota_table *t, uint32_t i)
{
    struct quota_key *end = quota_key(t, t->capacity + 1);
    return (struct quota_place *)(void *)end + (i - 1);
}

size_t quota_table_bytes(uint32_t places)
{
    _Static_assert(sizeof(struct quota_key) % 8 == 0, "places follow keys");
    return sizeof(struct quota_table) + quota_bucket_bytes(hash_chains_for(places)) +
           (size_t)places * (sizeof(struct quota_key) + sizeof(struct quota_place)) + 64;
}

int quota_table_init(struct quota_table *t, uint32_t places)
{
    t->capacity = places;
    t->buckets = hash_chains_for(places);
    hash_key_init(&t->hash);
    return shared_lock_init(&t->lock);
}

/* ---------------------------------------------------------------- keys */

static uint32_t *quota_bucket_of(struct quota_table *t, struct slice text)
{
    return &quota_buckets(t)[hash_bytes(&t->hash, text.p, text.n) & (t->buckets - 1)];
}

static struct slice quota_key_text(const struct quota_key *k)
{
    return slice_of(k->text, k->bytes);
}

static uint32_t quota_find_key(struct quota_table *t, struct slice text)
{
    uint32_t i = *quota_bucket_of(t, text);
    while (i && !slice_eq(quota_key_text(quota_key(t, i)), text)) {
        i = quota_key(t, i)->chain;
    }
    return i;
}

/* There is room: a key has a place at least, and there are as many. */
static uint32_t quota_add_key(struct quota_table *t, struct slice text)
{
    uint32_t *bucket = quota_bucket_of(t, text);
    uint32_t i = t->free_keys;
    if (i) {
        t->free_keys = quota_key(t, i)->chain;
    } else {
        i = ++t->fresh_keys;
    }
    struct quota_key *k = quota_key(t, i);
    *k = (struct quota_key){.chain = *bucket, .bytes = (uint32_t)text.n};
    memcpy(k->text, text.p, text.n);
    *bucket = i;
    t->keys_used++;
    return i;
}

static void quota_drop_key(struct quota_table *t, uint32_t i)
{
    struct quota_key *k = quota_key(t, i);
    uint32_t *link = quota_bucket_of(t, quota_key_text(k));
    while (*link != i) {
        link = &quota_key(t, *link)->chain;
    }
    *link = k->chain;
    k->chain = t->free_keys;
    t->free_keys = i;
    t->keys_used--;
}

/* ---------------------------------------------------------------- lists of places */

static void quota_append(struct quota_table *t, uint32_t *oldest, uint32_t *newest, uint32_t i)
{
    struct quota_place *p = quota_place(t, i);
    p->older = *newest;
    p->newer = 0;
    *(*newest ? &quota_place(t, *newest)->newer : oldest) = i;
    *newest = i;
}

static void quota_unlink(struct quota_table *t, uint32_t *oldest, uint32_t *newest, uint32_t i)
{
    const struct quota_place *p = quota_place(t, i);
    *(p->older ? &quota_place(t, p->older)->newer : oldest) = p->newer;
    *(p->newer ? &quota_place(t, p->newer)->older : newest) = p->older;
}

static void quota_link(struct quota_table *t, uint32_t i)
{
    struct quota_place *p = quota_place(t, i);
    struct quota_key *k = quota_key(t, p->key);
    if (p->to_end) {
        struct quota_owner *o = &t->owners[p->owner - 1];
        quota_append(t, &o->first, &o->last, i);
        o->to_end++;
    } else {
        quota_append(t, &k->oldest, &k->newest, i);
        k->streams++;
    }
    k->refs++;
}

static void quota_give_back(struct quota_table *t, uint32_t i)
{
    struct quota_place *p = quota_place(t, i);
    struct quota_key *k = quota_key(t, p->key);
    struct quota_owner *o = &t->owners[p->owner - 1];
    atomic_store_explicit(&p->owner, 0, memory_order_release);
    if (p->to_end) {
        quota_unlink(t, &o->first, &o->last, i);
        o->to_end--;
    } else {
        quota_unlink(t, &k->oldest, &k->newest, i);
        k->streams--;
    }
    if (--k->refs == 0) {
        quota_drop_key(t, p->key);
    }
    p->newer = t->free_places;
    t->free_places = i;
    t->places_used--;
}

static uint32_t quota_take(struct quota_table *t, uint32_t owner, uint64_t stream, uint32_t key)
{
    uint32_t i = t->free_places;
    if (i) {
        t->free_places = quota_place(t, i)->newer;
    } else {
        i = ++t->fresh_places;
    }
    struct quota_place *p = quota_place(t, i);
    p->to_end = false;
    p->key = key;
    p->stream = stream;
    p->since = ++t->since;
    atomic_store_explicit(&p->owner, owner, memory_order_release);
    quota_link(t, i);
    t->places_used++;
    return i;
}

/* The oldest stream of the key does not count any more. The number of the worker that has it. */
static unsigned quota_end_oldest(struct quota_table *t, struct quota_key *k)
{
    uint32_t i = k->oldest;
    struct quota_place *p = quota_place(t, i);
    struct quota_owner *o = &t->owners[p->owner - 1];
    quota_unlink(t, &k->oldest, &k->newest, i);
    k->streams--;
    atomic_store_explicit(&p->to_end, true, memory_order_release);
    quota_append(t, &o->first, &o->last, i);
    o->to_end++;
    return o->number;
}

/* ---------------------------------------------------------------- the lock, and what deaths leave */

struct quota_order {
    uint64_t since;
    uint32_t place;
};

static int quota_compare(const void *a, const void *b)
{
    const struct quota_order *x = a, *y = b;
    return (x->since > y->since) - (x->since < y->since);
}

/* A process died while it changed the table: makes everything of the places again. */
static void quota_rebuild(struct quota_table *t)
{
    struct quota_order *used = xcalloc((size_t)t->fresh_places + 1, sizeof *used);
    size_t n = 0;
    memset(quota_buckets(t), 0, t->buckets * sizeof(uint32_t));
    t->free_keys = t->free_places = 0;
    t->places_used = 0;
    t->keys_used = 0;
    for (uint32_t i = 0; i < OWNERS; i++) {
        t->owners[i].to_end = 0;
        t->owners[i].first = t->owners[i].last = 0;
    }
    for (uint32_t i = 1; i <= t->fresh_keys; i++) {
        struct quota_key *k = quota_key(t, i);
        k->refs = k->streams = k->oldest = k->newest = 0;
    }
    for (uint32_t i = 1; i <= t->fresh_places; i++) {
        struct quota_place *p = quota_place(t, i);
        if (p->owner) {
            used[n++] = (struct quota_order){p->since, i};
        } else {
            p->newer = t->free_places;
            t->free_places = i;
        }
    }
    qsort(used, n, sizeof *used, quota_compare);
    for (size_t i = 0; i < n; i++) {
        quota_link(t, used[i].place);
    }
    t->places_used = (unsigned)n;
    for (uint32_t i = 1; i <= t->fresh_keys; i++) {
        struct quota_key *k = quota_key(t, i);
        uint32_t *into = k->refs ? quota_bucket_of(t, quota_key_text(k)) : &t->free_keys;
        k->chain = *into;
        *into = i;
        t->keys_used += k->refs ? 1 : 0;
    }
    free(used);
}

static void quota_bury(struct quota_table *t)
{
    bool ended[OWNERS];
    t->buried = t->deaths; /* one that comes now is for the next time */
    for (uint32_t i = 0; i < OWNERS; i++) {
        ended[i] = t->owners[i].pid && t->owners[i].ended;
    }
    for (uint32_t i = 1; i <= t->fresh_places; i++) {
        uint32_t owner = quota_place(t, i)->owner;
        if (owner && ended[owner - 1]) {
            quota_give_back(t, i);
        }
    }
    for (uint32_t i = 0; i < OWNERS; i++) {
        if (ended[i]) {
            t->owners[i].ended = false;
            t->owners[i].pid = 0;
        }
    }
}

static void quota_lock(struct quota_table *t)
{
    if (shared_lock_take(&t->lock)) {
        quota_rebuild(t);
        shared_lock_whole(&t->lock);
    }
    if (t->buried != t->deaths) {
        quota_bury(t);
    }
}

static void quota_unlock(struct quota_table *t)
{
    shared_lock_leave(&t->lock);
}

void quota_table_process_ended(struct quota_table *t, int pid)
{
    for (uint32_t i = 0; i < OWNERS; i++) {
        if (t->owners[i].pid == pid) {
            t->owners[i].ended = true;
            t->deaths++;
        }
    }
}

/* ---------------------------------------------------------------- a process */

int quota_join(struct quota_user *u, struct quota_table *t, int pid, unsigned number)
{
    uint32_t i = 0;
    quota_lock(t);
    while (i < OWNERS && t->owners[i].pid) {
        i++;
    }
    if (i < OWNERS) {
        t->owners[i].number = number;
        t->owners[i].ended = false;
        t->owners[i].pid = pid;
        *u = (struct quota_user){t, i + 1};
    }
    quota_unlock(t);
    return i < OWNERS ? 0 : UV_EAGAIN;
}

void quota_leave(struct quota_user *u)
{
    struct quota_table *t = u->table;
    if (!t) {
        return;
    }
    quota_lock(t);
    for (uint32_t i = 1; i <= t->fresh_places; i++) {
        if (quota_place(t, i)->owner == u->owner) {
            quota_give_back(t, i);
        }
    }
    t->owners[u->owner - 1].pid = 0;
    quota_unlock(t);
    u->table = NULL;
}

/* The place of `hold` that counts, or counted, for the key; 0: none does. */
static uint32_t quota_held(struct quota_table *t, const struct quota_hold *hold, uint32_t key)
{
    for (uint32_t i = 0; key && i < hold->n; i++) {
        if (quota_place(t, hold->places[i])->key == key) {
            return hold->places[i];
        }
    }
    return 0;
}

/* May it have what it does not have yet? */
static enum quota_answer quota_may(struct quota_table *t, const struct quota_hold *hold,
                                   const struct quota_want *wants, size_t n, size_t *which)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t key = quota_find_key(t, wants[i].key);
        struct quota_key *k = key ? quota_key(t, key) : NULL;
        if (k && !quota_held(t, hold, key) && !wants[i].oldest && k->streams >= wants[i].max) {
            k->denied++;
            k->max = wants[i].max;
            *which = i;
            return QUOTA_DENIED;
        }
    }
    return n > hold->n + (t->capacity - t->places_used) ? QUOTA_NO_ROOM : QUOTA_GRANTED;
}

/* Gives back what it does not want any more. */
static void quota_keep(struct quota_table *t, struct quota_hold *hold,
                       const struct quota_want *wants, size_t n)
{
    struct quota_hold kept = {0};
    for (uint32_t i = 0; i < hold->n; i++) {
        uint32_t key = quota_place(t, hold->places[i])->key;
        size_t w = 0;
        while (w < n && quota_find_key(t, wants[w].key) != key) {
            w++;
        }
        if (w < n) {
            kept.places[kept.n++] = hold->places[i];
        } else {
            quota_give_back(t, hold->places[i]);
        }
    }
    *hold = kept;
}

static uint32_t quota_get(struct quota_user *u, uint64_t stream, const struct quota_want *want,
                          uint64_t *tells)
{
    struct quota_table *t = u->table;
    uint32_t key = quota_find_key(t, want->key);
    key = key ? key : quota_add_key(t, want->key);
    struct quota_key *k = quota_key(t, key);
    uint32_t place = quota_take(t, u->owner, stream, key); /* first: the key must not go */
    k->max = want->max;
    while (k->streams > want->max) {
        unsigned number = quota_end_oldest(t, k);
        *tells |= number ? UINT64_C(1) << (number - 1) : 0;
    }
    return place;
}

enum quota_answer quota_change(struct quota_user *u, uint64_t stream, struct quota_hold *hold,
                               const struct quota_want *wants, size_t n, struct quota_outcome *out)
{
    struct quota_table *t = u->table;
    struct quota_hold now = {.n = (uint32_t)n};
    *out = (struct quota_outcome){0};
    quota_lock(t);
    enum quota_answer answer = quota_may(t, hold, wants, n, &out->which);
    if (answer == QUOTA_GRANTED) {
        /* first: in a full table these are the places for the others */
        quota_keep(t, hold, wants, n);
        for (size_t i = 0; i < n; i++) {
            uint32_t held = quota_held(t, hold, quota_find_key(t, wants[i].key));
            now.places[i] = held ? held : quota_get(u, stream, &wants[i], &out->tells);
            quota_key(t, quota_place(t, now.places[i])->key)->max = wants[i].max;
        }
        *hold = now;
    }
    quota_unlock(t);
    return answer;
}

size_t quota_to_end(const struct quota_user *u)
{
    return u->table ? u->table->owners[u->owner - 1].to_end : 0;
}

size_t quota_ended(struct quota_user *u, struct quota_ended *out, size_t room)
{
    struct quota_table *t = u->table;
    struct quota_owner *o = &t->owners[u->owner - 1];
    size_t n = 0;
    quota_lock(t);
    while (n < room && n < o->to_end) {
        uint32_t i = o->first;
        const struct quota_place *p = quota_place(t, i);
        const struct quota_key *k = quota_key(t, p->key);
        out[n] = (struct quota_ended){.stream = p->stream, .max = k->max, .key_bytes = k->bytes};
        memcpy(out[n].key, k->text, k->bytes);
        n++;
        quota_unlink(t, &o->first, &o->last, i); /* to the end of the list: the others come next */
        quota_append(t, &o->first, &o->last, i);
    }
    quota_unlock(t);
    return n;
}

void quota_sweep(struct quota_user *u)
{
    struct quota_table *t = u->table;
    if (t && t->buried != t->deaths) {
        quota_lock(t);
        quota_unlock(t);
    }
}

struct slice quota_key_of(const struct quota_user *u, uint32_t place)
{
    return quota_key_text(quota_key(u->table, quota_place(u->table, place)->key));
}

/* ---------------------------------------------------------------- for operators */

void quota_table_figures(const struct quota_table *t, struct quota_figures *out)
{
    *out = (struct quota_figures){
        .places = t->places_used, .keys = t->keys_used, .capacity = t->capacity};
}

/* Sorts it into the list, where it has a place in it. */
static size_t quota_list_full(struct quota_full *out, size_t n, size_t room,
                              const struct quota_key *k)
{
    size_t at = n;
    while (at > 0 && out[at - 1].denied < k->denied) {
        at--;
    }
    if (at == room) {
        return n;
    }
    n = n < room ? n + 1 : room;
    memmove(out + at + 1, out + at, (n - at - 1) * sizeof *out);
    out[at] = (struct quota_full){
        .key_bytes = k->bytes, .streams = k->streams, .max = k->max, .denied = k->denied};
    memcpy(out[at].key, k->text, k->bytes);
    return n;
}

size_t quota_table_full(struct quota_table *t, struct quota_full *out, size_t room, size_t *total)
{
    size_t n = 0;
    uint32_t i = 1, end = 1;
    *total = 0;
    while (end) {
        quota_lock(t);
        end = t->fresh_keys >= i + SCAN_KEYS ? i + SCAN_KEYS : 0;
        for (; i <= t->fresh_keys && i != end; i++) {
            const struct quota_key *k = quota_key(t, i);
            if (k->refs && k->streams >= k->max) {
                ++*total;
                n = quota_list_full(out, n, room, k);
            }
        }
        quota_unlock(t);
    }
    return n;
}
