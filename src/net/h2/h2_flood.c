#include "net/h2/h2_flood.h"

#include "base/logging.h"

enum { PER_S = 32 };

void h2_flood_init(struct h2_flood *f, uint64_t now_ms)
{
    *f = (struct h2_flood){.left = H2_FLOOD_AT_ONCE, .at_ms = now_ms};
}

bool h2_flood_take(struct h2_flood *f, const struct conn *c, size_t n)
{
    uint64_t now = loop_now(c->server->loop);
    uint64_t more = (now - f->at_ms) * PER_S / 1000;
    if (more) {
        f->left = more < H2_FLOOD_AT_ONCE - f->left ? f->left + (uint32_t)more : H2_FLOOD_AT_ONCE;
        f->at_ms = now;
    }
    c->server->metrics->h2_glitches += n;
    bool tolerated = n <= f->left;
    f->left = tolerated ? f->left - (uint32_t)n : 0;
    return tolerated;
}

void h2_flood_note(const struct conn *c)
{
    struct http_server *server = c->server;
    server->metrics->h2_floods++;
    if (log_pace_take(&server->flood_pace, loop_now(server->loop))) {
        char address[ADDRESS_TEXT_MAX];
        peer_address_text(&c->peer, address);
        log_info("http", "ended an HTTP/2 connection: more control frames than any client needs",
                 LOG_F(log_uint("conn", c->id), log_str("peer", address),
                       log_uint("ended", server->metrics->h2_floods)));
    }
}
