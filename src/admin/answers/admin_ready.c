#include "admin/answers/admin_ready.h"

static int admin_ready_add(struct strbuf *why, const char *what, const char *detail)
{
    return strbuf_printf(why, "%s%s%s", why->len ? "; " : "", what, detail);
}

/* Where no set has keys nobody can come in with a token. Where one has, its users can. */
static int admin_ready_add_keys(const struct admin *a, struct strbuf *why)
{
    const struct keyset *s;
    int rc = 0;
    for (size_t i = 0; (s = keyring_at(a->keyring, i)) != NULL; i++) {
        if (keyset_has_keys(s)) {
            return 0;
        }
    }
    for (size_t i = 0; rc == 0 && (s = keyring_at(a->keyring, i)) != NULL; i++) {
        const char *failure = keyset_failure(s);
        rc = admin_ready_add(why, "no keys yet of the set ", keyset_name(s));
        rc = rc ? rc : strbuf_printf(why, ": %s", failure ? failure : "it is being fetched");
    }
    return rc;
}

int admin_not_ready(const struct admin *a, const struct admin_state *st, struct strbuf *why)
{
    int rc = st->draining ? admin_ready_add(why, "draining", "") : 0;
    if (rc == 0 && !st->policy_file) {
        rc = admin_ready_add(why, "no policy is loaded", "");
    }
    if (rc == 0 && !a->store) {
        rc = admin_ready_add(why, "the store is not open yet", st->store_away ? ": " : "");
        rc = rc || !st->store_away ? rc : strbuf_append_str(why, st->store_away);
    }
    if (rc == 0 && a->store) {
        struct store_health h = a->store->ops->health(a->store);
        rc = h.ok ? 0 : admin_ready_add(why, "the store is not healthy: ", h.detail);
    }
    return rc ? rc : admin_ready_add_keys(a, why);
}

int admin_degraded(const struct admin *a, struct strbuf *out)
{
    struct store_health h = a->store->ops->health(a->store);
    int rc = h.degraded ? strbuf_printf(out, "degraded: the store: %s\n", h.degraded) : 0;
    const struct keyset *s;
    for (size_t i = 0; rc == 0 && (s = keyring_at(a->keyring, i)) != NULL; i++) {
        const char *failure = keyset_failure(s);
        if (!keyset_has_keys(s)) {
            rc = strbuf_printf(out, "degraded: no token of the key set %s can be verified: %s\n",
                               keyset_name(s), failure ? failure : "it is being fetched");
        } else if (failure) {
            rc = strbuf_printf(out,
                               "degraded: the key set %s cannot be read again, the keys it has "
                               "stay: %s\n",
                               keyset_name(s), failure);
        }
    }
    return rc;
}
