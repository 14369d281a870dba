#include "admin/admin_ready.h"

static int admin_ready_add(struct strbuf *why, const char *what, const char *detail)
{
    return strbuf_printf(why, "%s%s%s", why->len ? "; " : "", what, detail);
}

int admin_not_ready(const struct admin *a, const struct admin_state *st, struct strbuf *why)
{
    int rc = st->draining ? admin_ready_add(why, "draining", "") : 0;
    if (rc == 0 && !st->policy_file) {
        rc = admin_ready_add(why, "no policy is loaded", "");
    }
    if (rc == 0 && !a->store) {
        rc = admin_ready_add(why, "the store is not open yet", "");
    }
    if (rc == 0 && a->store) {
        struct store_health h = a->store->ops->health(a->store);
        rc = h.ok ? 0 : admin_ready_add(why, "the store is not healthy: ", h.detail);
    }
    return rc;
}

int admin_degraded(const struct admin *a, struct strbuf *out)
{
    struct store_health h = a->store->ops->health(a->store);
    return h.degraded ? strbuf_printf(out, "degraded: the store: %s\n", h.degraded) : 0;
}
