#include "net/message/http_bodies.h"

#include "base/logging.h"
#include "base/require.h"

void http_bodies_init(struct http_bodies *b, struct net_metrics *metrics, size_t most,
                      size_t most_of_one)
{
    *b = (struct http_bodies){.metrics = metrics,
                              .most = most,
                              .most_of_one = most_of_one,
                              .clients = address_limit_new()};
}

void http_bodies_clear(struct http_bodies *b)
{
    REQUIRE(b->bytes == 0);
    address_limit_free(b->clients);
    b->clients = NULL;
}

void http_body_share_begin(struct http_body_share *s, struct http_bodies *all,
                           const struct peer_address *client)
{
    *s = (struct http_body_share){.all = all, .client = *client};
}

static bool http_bodies_refuse(struct http_bodies *b, const struct http_body_share *s,
                               const char *setting)
{
    b->metrics->bodies_refused++;
    if (log_pace_take(&b->pace, uv_hrtime() / 1000000)) {
        char client[ADDRESS_TEXT_MAX];
        peer_address_text(&s->client, client);
        log_warn("http", "request bodies are refused: too many bytes of them are under way",
                 LOG_F(log_str("limit", setting), log_uint("bytes", b->bytes),
                       log_str("client", client)));
    }
    return false;
}

bool http_body_share_grow(struct http_body_share *s, size_t bytes)
{
    struct http_bodies *b = s->all;
    if (!b || bytes <= s->bytes) {
        return true;
    }
    size_t more = bytes - s->bytes;
    if (b->most && more > b->most - (b->bytes < b->most ? b->bytes : b->most)) {
        return http_bodies_refuse(b, s, "limits.bodies_bytes");
    }
    if (!peer_address_is_unix(&s->client) &&
        !address_limit_take(b->clients, &s->client, more, b->most_of_one)) {
        return http_bodies_refuse(b, s, "limits.bodies_bytes_per_address");
    }
    b->bytes += more;
    b->metrics->bodies_bytes = b->bytes;
    s->bytes = bytes;
    return true;
}

void http_body_share_end(struct http_body_share *s)
{
    struct http_bodies *b = s->all;
    if (b && s->bytes) {
        if (!peer_address_is_unix(&s->client)) {
            address_limit_release(b->clients, &s->client, s->bytes);
        }
        b->bytes -= s->bytes;
        b->metrics->bodies_bytes = b->bytes;
    }
    *s = (struct http_body_share){0};
}
