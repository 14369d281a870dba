/* See store_open.h. The first look blocks: a broker whose store is there has nothing else to do. Later
 * ones do not, because the broker answers meanwhile: they connect on a thread. */
#include "server/store_open.h"

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/logging.h"

#include <libpq-fe.h>
#include <stdlib.h>

enum { AGAIN_MS = 1000, REMIND_LOOKS = 60 };

/* On a thread, which may outlive the opening. */
struct store_look {
    uv_work_t work;                /* first */
    struct store_opening *opening; /* NULL: stopped */
    struct store_pg_options opt;   /* strings borrowed from the configuration */
    struct pg_schema_state *state; /* owned */
    int rc;
    struct err e;
};

int store_libpq_version(void)
{
    return PQlibVersion();
}

static int store_opening_open(const struct store_opening *o, const struct pg_schema_state *state,
                              struct store **out, struct err *e)
{
    const struct store_listener *l = &o->listener;
    uv_loop_t *loop = loop_uv(o->loop);
    if (o->opt->postgres) {
        return store_pg_open(&o->opt->pg, state, loop, o->metrics, l->tail, l->leap, l->ctx, out,
                             e);
    }
    return store_sqlite_open(&o->opt->sqlite, loop, o->metrics, l->tail, l->leap, l->ctx, out, e);
}

/* ---------------------------------------------------------------- a look on a thread */

static void store_opening_wait(struct store_opening *o);

static void store_look_run(uv_work_t *work)
{
    struct store_look *k = container_of(work, struct store_look, work);
    k->rc = store_pg_check(&k->opt, &k->state, &k->e);
}

static void store_opening_looked(struct store_opening *o, struct store_look *k)
{
    struct store *store = NULL;
    o->look = NULL;
    if (k->rc == 0) {
        k->rc = store_opening_open(o, k->state, &store, &k->e);
    }
    if (k->rc == 0) {
        o->done(o->ctx, store, NULL);
    } else if (!store_pg_heals(k->rc)) {
        o->done(o->ctx, NULL, &k->e);
    } else {
        bool other = strcmp(o->why.text, k->e.text) != 0;
        o->why = k->e;
        if (other || ++o->looks % REMIND_LOOKS == 0) {
            log_warn("store", "still away", LOG_F(log_str("error", k->e.text)));
        }
        store_opening_wait(o);
    }
}

static void store_look_done(uv_work_t *work, int status)
{
    struct store_look *k = container_of(work, struct store_look, work);
    (void)status; /* it is never cancelled */
    if (k->opening) {
        store_opening_looked(k->opening, k);
    }
    free(k->state);
    free(k);
}

static void store_opening_again(struct deadline *d)
{
    struct store_opening *o = container_of(d, struct store_opening, again);
    struct store_look *k = xcalloc(1, sizeof *k);
    k->opening = o;
    k->opt = o->opt->pg;
    if (uv_queue_work(loop_uv(o->loop), &k->work, store_look_run, store_look_done)) {
        free(k);
        store_opening_wait(o);
        return;
    }
    o->look = k;
}

static void store_opening_wait(struct store_opening *o)
{
    deadline_arm(loop_deadline_class(o->loop, AGAIN_MS, store_opening_again), &o->again);
}

/* ---------------------------------------------------------------- */

int store_opening_begin(struct store_opening *o, struct store **out, struct err *e)
{
    deadline_init(&o->again);
    int rc = store_opening_open(o, NULL, out, e);
    if (rc == 0 || !o->opt->postgres || !store_pg_heals(rc)) {
        return rc;
    }
    o->why = *e;
    store_opening_wait(o);
    return UV_EAGAIN;
}

void store_opening_stop(struct store_opening *o)
{
    if (o->opt) { /* else it never began */
        deadline_disarm(&o->again);
    }
    if (o->look) {
        o->look->opening = NULL;
        o->look = NULL;
    }
}
