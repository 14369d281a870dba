/* See store_check.h. */
#include "server/store_check.h"

#include "store/postgres/pg_schema.h"
#include "store/postgres/store_pg.h"
#include "store/sqlite/store_sqlite.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static enum store_check store_check_postgres(const struct config *cfg, struct err *e)
{
    bool makes = strcmp(cfg->store.migrate, "auto") == 0;
    const struct store_pg_options opt = {.conninfo = cfg->store.conninfo,
                                         .partition_ids = (uint64_t)cfg->store.partition_ids};
    struct pg_schema_state *state = NULL;
    int rc = store_pg_check(&opt, &state, e);
    free(state);
    /* no schema, or an older one; where there is no database, the text is another */
    bool made = rc == UV_ENOENT && makes && strstr(e->text, "store.migrate") != NULL;
    if (rc == 0 || made) {
        return STORE_CHECK_FINE;
    }
    (void)err_context(e, "store.conninfo");
    return store_pg_heals(rc) ? STORE_CHECK_AWAY : STORE_CHECK_WRONG;
}

enum store_check store_check(const struct config *cfg, bool database, struct err *e)
{
    if (cfg->store.conninfo) {
        return database ? store_check_postgres(cfg, e) : STORE_CHECK_SKIPPED;
    }
    int rc = store_sqlite_check(cfg->store.path, e);
    if (rc == 0) {
        return STORE_CHECK_FINE;
    }
    (void)err_context(e, "store.path");
    return rc == UV_EINVAL || rc == UV_ENOTSUP || rc == UV_ENOTDIR ? STORE_CHECK_WRONG
                                                                   : STORE_CHECK_UNSURE;
}
