/* See rate_table.h. Indices begin at 1; 0 is none. */
#include "quota/rate_table.h"

#include "base/hash.h"
#include "quota/shared_lock.h"

#include <stdatomic.h>
#include <string.h>

/* Most places looked at for one new key: while there are more, the table is looked through by and by. */
enum { LOOK_AT = 1024 };

/* What somebody for whose key there is no room is told to wait, at least and at most. */
static const uint64_t no_room_least_ns = UINT64_C(1000000000),
                      no_room_most_ns = UINT64_C(60000000000);

/* `full_at` is written last when a place is taken, and first when it is given back. */
struct rate_bucket {
    uint64_t
        hash[2]; /* of name and key, with two secrets: equal for no two that anybody will see */
    _Atomic uint64_t full_at; /* 0: free */
    uint32_t chain;           /* the next one in its chain, or in the list of free ones */
};

struct rate_table {
    struct shared_lock lock;
    uint32_t capacity, chains; /* chains: a power of two */
    struct hash_key secrets[2];
    atomic_uint used;
    uint32_t free, fresh; /* list of free ones; those above `fresh` were never used */
    uint32_t hand;        /* where to look for one that is full again */
    uint32_t in_vain;     /* looked at, since the last one was found */
    uint64_t soonest;     /* of those: when the first of them is full */
    uint64_t not_before;  /* all have been looked at: none is full before that */
};

static uint32_t *rate_chains(struct rate_table *t)
{
    return (uint32_t *)(void *)(t + 1);
}

static struct rate_bucket *rate_bucket(struct rate_table *t, uint32_t i)
{
    return (struct rate_bucket *)(void *)(rate_chains(t) + t->chains) + (i - 1);
}

size_t rate_table_bytes(uint32_t keys)
{
    return sizeof(struct rate_table) + hash_chains_for(keys) * sizeof(uint32_t) +
           (size_t)keys * sizeof(struct rate_bucket);
}

int rate_table_init(struct rate_table *t, uint32_t keys)
{
    _Static_assert(sizeof(struct rate_table) % 8 == 0, "buckets follow");
    t->capacity = keys;
    t->chains = hash_chains_for(keys);
    hash_key_init(&t->secrets[0]);
    hash_key_init(&t->secrets[1]);
    return shared_lock_init(&t->lock);
}

static uint32_t *rate_chain_of(struct rate_table *t, const struct rate_bucket *b)
{
    return &rate_chains(t)[b->hash[0] & (t->chains - 1)];
}

/* A process died while it changed the table: makes it of the buckets again. */
static void rate_rebuild(struct rate_table *t)
{
    memset(rate_chains(t), 0, t->chains * sizeof(uint32_t));
    t->free = 0;
    t->used = 0;
    for (uint32_t i = 1; i <= t->fresh; i++) {
        struct rate_bucket *b = rate_bucket(t, i);
        uint32_t *into = b->full_at ? rate_chain_of(t, b) : &t->free;
        b->chain = *into;
        *into = i;
        t->used += b->full_at ? 1 : 0;
    }
}

static void rate_lock(struct rate_table *t)
{
    if (shared_lock_take(&t->lock)) {
        rate_rebuild(t);
        shared_lock_whole(&t->lock);
    }
}

static void rate_give_back(struct rate_table *t, uint32_t i)
{
    struct rate_bucket *b = rate_bucket(t, i);
    uint32_t *link = rate_chain_of(t, b);
    atomic_store_explicit(&b->full_at, 0, memory_order_release);
    while (*link != i) {
        link = &rate_bucket(t, *link)->chain;
    }
    *link = b->chain;
    b->chain = t->free;
    t->free = i;
    t->used--;
}

/* Gives back a bucket that is full again, if there is one. */
static void rate_look(struct rate_table *t, uint64_t now)
{
    for (uint32_t i = 0; i < LOOK_AT && t->free == 0 && now >= t->not_before; i++) {
        t->hand = t->hand % t->capacity + 1;
        uint64_t full_at = rate_bucket(t, t->hand)->full_at;
        if (full_at <= now) {
            rate_give_back(t, t->hand);
            t->in_vain = 0;
            continue;
        }
        t->soonest = t->in_vain && t->soonest < full_at ? t->soonest : full_at;
        if (++t->in_vain >= t->capacity) {
            t->in_vain = 0;
            t->not_before = t->soonest;
        }
    }
}

/* A place for a new key; 0: there is none. */
static uint32_t rate_add(struct rate_table *t, const uint64_t hash[2], uint64_t now)
{
    if (t->fresh == t->capacity && t->free == 0) {
        rate_look(t, now);
    }
    uint32_t i = t->free;
    if (i) {
        t->free = rate_bucket(t, i)->chain;
    } else if (t->fresh < t->capacity) {
        i = ++t->fresh;
    } else {
        return 0;
    }
    struct rate_bucket *b = rate_bucket(t, i);
    b->hash[0] = hash[0];
    b->hash[1] = hash[1];
    uint32_t *chain = rate_chain_of(t, b);
    b->chain = *chain;
    *chain = i;
    t->used++;
    return i;
}

static uint32_t rate_find(struct rate_table *t, const uint64_t hash[2])
{
    uint32_t i = rate_chains(t)[hash[0] & (t->chains - 1)];
    while (i) {
        const struct rate_bucket *b = rate_bucket(t, i);
        if (b->hash[0] == hash[0] && b->hash[1] == hash[1]) {
            break;
        }
        i = b->chain;
    }
    return i;
}

enum rate_answer rate_take(struct rate_table *t, struct slice name, struct slice key,
                           const struct rate_rule *rule, uint64_t now_ns, uint64_t *wait_ns)
{
    char text[1 + RATE_NAME_MAX_BYTES + RATE_KEY_MAX_BYTES];
    uint64_t now = now_ns ? now_ns : 1;
    uint64_t slack = (rule->burst - 1) * rule->interval_ns;
    enum rate_answer answer = RATE_TAKEN;
    text[0] = (char)name.n;
    memcpy(text + 1, name.p, name.n);
    memcpy(text + 1 + name.n, key.p, key.n);
    size_t n = 1 + name.n + key.n;
    const uint64_t hash[2] = {hash_bytes(&t->secrets[0], text, n),
                              hash_bytes(&t->secrets[1], text, n)};
    rate_lock(t);
    uint32_t i = rate_find(t, hash);
    uint64_t full_at = i ? rate_bucket(t, i)->full_at : now;
    full_at = full_at > now ? full_at : now;
    if (full_at - now > slack) {
        *wait_ns = full_at - now - slack;
        answer = RATE_EMPTY;
    } else if (i || (i = rate_add(t, hash, now)) != 0) {
        atomic_store_explicit(&rate_bucket(t, i)->full_at, full_at + rule->interval_ns,
                              memory_order_release);
    } else {
        uint64_t until = t->not_before > now ? t->not_before - now : 0;
        until = until < no_room_most_ns ? until : no_room_most_ns;
        *wait_ns = until > no_room_least_ns ? until : no_room_least_ns;
        answer = RATE_NO_ROOM;
    }
    shared_lock_leave(&t->lock);
    return answer;
}

void rate_table_figures(const struct rate_table *t, uint32_t *keys, uint32_t *capacity)
{
    *keys = t->used;
    *capacity = t->capacity;
}
