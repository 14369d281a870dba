#include "net/http/http_rate.h"

#include "base/logging.h"

enum { ADDRESSES_MAX = 65536 };

void http_rate_init(struct http_rate *r, const struct http_rate_options *opt, uint64_t *refused)
{
    *r = (struct http_rate){.opt = *opt, .refused = refused};
    if (opt->per_s) {
        r->clients = address_rate_new(opt->per_s, opt->burst, ADDRESSES_MAX);
    }
}

void http_rate_clear(struct http_rate *r)
{
    address_rate_free(r->clients);
    r->clients = NULL;
}

static void http_rate_log(struct http_rate *r, const struct peer_address *client, uint64_t now_ms)
{
    char text[ADDRESS_TEXT_MAX];
    if (!log_pace_take(&r->pace, now_ms)) {
        return;
    }
    peer_address_text(client, text);
    log_warn("http",
             r->opt.fixed
                 ? "refused a client that asks too often"
                 : "refused a client that is too fast; raise the limit if many share its address",
             LOG_F(log_str("client", text), log_str("limit", r->opt.setting),
                   log_uint("per_s", r->opt.per_s), log_uint("refused", *r->refused)));
}

bool http_rate_take(struct http_rate *r, const struct peer_address *client, uint64_t now_ms)
{
    if (!r->clients || (r->opt.local_exempt && peer_address_is_local(client)) ||
        address_rate_take(r->clients, client, now_ms)) {
        return true;
    }
    ++*r->refused;
    http_rate_log(r, client, now_ms);
    return false;
}
