/* net/tls/tls_record for specs, and beside it the same keys in the hands of OpenSSL: a client and a server that
 * have shaken hands in memory. */
#include "base/text/hex.h"
#include "native.h"
#include "net/tls/tls_record.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define RECORD "tidegate.spec.tls.record"
#define PEER "tidegate.spec.tls.peer"

/* ---------------------------------------------------------------- the record layer */

/* All share the suites, as the connections of a broker do: what one does to a cipher context the next one gets. */
struct record {
    struct tls_record layer;
};

static void read_secret(lua_State *L, const char *field, unsigned char *to, size_t n)
{
    size_t len;
    lua_getfield(L, 1, field);
    const char *text = luaL_checklstring(L, -1, &len);
    luaL_argcheck(L, len == n, 1, "a secret of another length");
    memcpy(to, text, n);
    lua_pop(L, 1);
}

static uint64_t number_field(lua_State *L, const char *field)
{
    lua_getfield(L, 1, field);
    lua_Integer n = luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    return (uint64_t)n;
}

/* new{ suite =, write = (secret), read =, write_seq =, read_seq =, at = (another, which was cleared: in its memory) } */
static int l_new(lua_State *L)
{
    static struct tls_suites *suites;
    luaL_checktype(L, 1, LUA_TTABLE);
    struct record *r;
    if (lua_getfield(L, 1, "at") == LUA_TNIL) {
        r = lua_newuserdatauv(L, sizeof *r, 0);
        memset(r, 0, sizeof *r);
        luaL_setmetatable(L, RECORD);
    } else {
        r = luaL_checkudata(L, -1, RECORD);
    }
    if (!suites) {
        suites = tls_suites_new();
    }
    r->layer.suite = suites ? tls_suites_find(suites, (uint16_t)number_field(L, "suite")) : NULL;
    luaL_argcheck(L, r->layer.suite != NULL, 1, "no such suite");
    size_t n = tls_suite_secret_bytes(r->layer.suite);
    read_secret(L, "write", r->layer.write.secret, n);
    read_secret(L, "read", r->layer.read.secret, n);
    if (!tls_record_begin(&r->layer, number_field(L, "write_seq"), number_field(L, "read_seq"))) {
        return luaL_error(L, "libcrypto");
    }
    return 1;
}

static int push_bytes(lua_State *L, struct strbuf *b)
{
    lua_pushlstring(L, b->data ? b->data : "", b->len);
    strbuf_clear(b);
    return 1;
}

/* r:seal(plain) -> what is sent; nil: it sends nothing more */
static int l_seal(lua_State *L)
{
    struct record *r = luaL_checkudata(L, 1, RECORD);
    struct strbuf out;
    size_t n;
    const char *plain = luaL_checklstring(L, 2, &n);
    strbuf_init(&out, 1 << 20);
    if (tls_record_seal(&r->layer, plain, n, &out)) {
        strbuf_clear(&out);
        return 0;
    }
    return push_bytes(L, &out);
}

/* r:finish() -> close_notify */
static int l_finish(lua_State *L)
{
    struct record *r = luaL_checkudata(L, 1, RECORD);
    struct strbuf out;
    strbuf_init(&out, 1 << 20);
    tls_record_end(&r->layer, &out);
    return push_bytes(L, &out);
}

/* r:open(bytes) -> plain text, "open", "ended" or "broken", and what is sent */
static int l_open(lua_State *L)
{
    struct record *r = luaL_checkudata(L, 1, RECORD);
    struct strbuf out;
    size_t n, got;
    const char *bytes = luaL_checklstring(L, 2, &n);
    char *in = malloc(n), *plain = malloc(n + TLS_RECORD_BYTES); /* exactly, for sanitizers */
    if (!in || !plain) {
        free(in);
        free(plain);
        return luaL_error(L, "no memory");
    }
    memcpy(in, bytes, n);
    strbuf_init(&out, 1 << 20);
    int rc = tls_record_open(&r->layer, slice_of(in, n), plain, &got, &out);
    lua_pushlstring(L, plain, got);
    free(in);
    free(plain);
    lua_pushstring(L, rc == 0 ? "open" : rc == UV_EOF ? "ended" : "broken");
    push_bytes(L, &out);
    return 3;
}

/* r:forge(content) -> a record with that content: plain text, type, padding */
static int l_forge(lua_State *L)
{
    struct record *r = luaL_checkudata(L, 1, RECORD);
    size_t n;
    const char *content = luaL_checklstring(L, 2, &n);
    luaL_argcheck(L, n > 0, 2, "is empty");
    size_t sealed = n + TLS_TAG_BYTES;
    const unsigned char header[TLS_HEADER_BYTES] = {23, 3, 3, (unsigned char)(sealed >> 8),
                                                    (unsigned char)(sealed & 255)};
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, sizeof header + sealed);
    memcpy(to, header, sizeof header);
    if (!tls_suite_seal(r->layer.suite, &r->layer.write, header, slice_of(content, n - 1),
                        (unsigned char)content[n - 1], to + sizeof header)) {
        return luaL_error(L, "libcrypto");
    }
    luaL_pushresultsize(&b, sizeof header + sealed);
    return 1;
}

static void push_keys(lua_State *L, const struct tls_keys *k)
{
    lua_newtable(L);
    lua_pushlstring(L, (const char *)k->key, sizeof k->key);
    lua_setfield(L, -2, "key");
    lua_pushlstring(L, (const char *)k->iv, sizeof k->iv);
    lua_setfield(L, -2, "iv");
    lua_pushlstring(L, (const char *)k->secret, sizeof k->secret);
    lua_setfield(L, -2, "secret");
    lua_pushinteger(L, (lua_Integer)k->seq);
    lua_setfield(L, -2, "seq");
}

/* r:keys() -> of what it writes, of what it reads: { key =, iv =, secret =, seq = } */
static int l_keys(lua_State *L)
{
    const struct record *r = luaL_checkudata(L, 1, RECORD);
    struct tls_keys read = {0};
    push_keys(L, &r->layer.write);
    memcpy(read.secret, r->layer.read.secret, sizeof read.secret);
    if (!tls_suite_derive(r->layer.suite, &read)) {
        return luaL_error(L, "libcrypto");
    }
    read.seq = r->layer.read.seq;
    push_keys(L, &read);
    return 2;
}

/* r:next() : the next key for what it writes */
static int l_next(lua_State *L)
{
    struct record *r = luaL_checkudata(L, 1, RECORD);
    lua_pushboolean(L, tls_suite_next(r->layer.suite, &r->layer.write));
    return 1;
}

/* r:clear() -> was anything left of its keys? */
static int l_clear(lua_State *L)
{
    struct record *r = luaL_checkudata(L, 1, RECORD);
    const struct tls_record none = {0};
    tls_record_clear(&r->layer);
    lua_pushboolean(L, memcmp(&r->layer, &none, sizeof none) != 0);
    return 1;
}

static int l_free(lua_State *L)
{
    struct record *r = luaL_checkudata(L, 1, RECORD);
    tls_record_clear(&r->layer);
    return 0;
}

/* ---------------------------------------------------------------- OpenSSL */

struct peer {
    SSL_CTX *client_ctx, *server_ctx;
    SSL *client, *server;
    BIO *to_client, *to_server;
    unsigned char secrets[2][TLS_SECRET_MAX]; /* of what the client, the server sends */
    size_t secret_bytes;
};

static void on_keylog(const SSL *ssl, const char *line)
{
    static const char *const labels[] = {"CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 "};
    struct peer *p = SSL_get_app_data(ssl);
    const char *hex = strrchr(line, ' ') + 1;
    size_t n = strlen(hex) / 2;
    for (size_t k = 0; k < 2; k++) {
        if (strncmp(line, labels[k], strlen(labels[k])) == 0 && n <= TLS_SECRET_MAX) {
            for (size_t i = 0; i < n; i++) {
                p->secrets[k][i] =
                    (unsigned char)(hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
            }
            p->secret_bytes = n;
        }
    }
}

static bool set_up(struct peer *p, const char *cert, const char *key, const char *suite)
{
    p->client_ctx = SSL_CTX_new(TLS_client_method());
    p->server_ctx = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(p->server_ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(p->server_ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_ciphersuites(p->server_ctx, suite) != 1) {
        return false;
    }
    SSL_CTX_set_keylog_callback(p->server_ctx, on_keylog);
    SSL_CTX_set_num_tickets(p->server_ctx, 0);
    p->client = SSL_new(p->client_ctx);
    p->server = SSL_new(p->server_ctx);
    p->to_client = BIO_new(BIO_s_mem());
    p->to_server = BIO_new(BIO_s_mem());
    BIO_up_ref(p->to_client);
    BIO_up_ref(p->to_server);
    SSL_set_bio(p->client, p->to_client, p->to_server);
    SSL_set_bio(p->server, p->to_server, p->to_client);
    SSL_set_app_data(p->server, p);
    SSL_set_connect_state(p->client);
    SSL_set_accept_state(p->server);
    for (int i = 0; i < 10; i++) {
        int done = SSL_do_handshake(p->client) + SSL_do_handshake(p->server);
        if (done == 2) {
            return true;
        }
    }
    return false;
}

/* peer(cert, key, suite) -> an object; what the client sends, what the server sends: secrets */
static int l_peer(lua_State *L)
{
    struct peer *p = lua_newuserdatauv(L, sizeof *p, 0);
    memset(p, 0, sizeof *p);
    luaL_setmetatable(L, PEER);
    if (!set_up(p, luaL_checkstring(L, 1), luaL_checkstring(L, 2), luaL_checkstring(L, 3))) {
        return luaL_error(L, "handshake: %s", ERR_reason_error_string(ERR_get_error()));
    }
    lua_pushlstring(L, (const char *)p->secrets[0], p->secret_bytes);
    lua_pushlstring(L, (const char *)p->secrets[1], p->secret_bytes);
    return 3;
}

static SSL *side(lua_State *L, struct peer *p)
{
    return strcmp(luaL_checkstring(L, 2), "client") == 0 ? p->client : p->server;
}

static int push_bio(lua_State *L, BIO *bio)
{
    char *bytes;
    long n = BIO_get_mem_data(bio, &bytes);
    lua_pushlstring(L, bytes, (size_t)n);
    (void)BIO_reset(bio);
    return 1;
}

/* p:write(side, plain) -> what is sent */
static int l_peer_write(lua_State *L)
{
    struct peer *p = luaL_checkudata(L, 1, PEER);
    SSL *ssl = side(L, p);
    size_t n, written;
    const char *plain = luaL_checklstring(L, 3, &n);
    ERR_clear_error();
    if (SSL_write_ex(ssl, plain, n, &written) != 1 || written != n) {
        return 0;
    }
    return push_bio(L, ssl == p->client ? p->to_server : p->to_client);
}

/* p:update(side, asks) -> a KeyUpdate */
static int l_peer_update(lua_State *L)
{
    struct peer *p = luaL_checkudata(L, 1, PEER);
    SSL *ssl = side(L, p);
    int how = lua_toboolean(L, 3) ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
    if (SSL_key_update(ssl, how) != 1 || SSL_do_handshake(ssl) != 1) {
        return luaL_error(L, "key update");
    }
    return push_bio(L, ssl == p->client ? p->to_server : p->to_client);
}

/* p:finish(side) -> close_notify */
static int l_peer_finish(lua_State *L)
{
    struct peer *p = luaL_checkudata(L, 1, PEER);
    SSL *ssl = side(L, p);
    (void)SSL_shutdown(ssl);
    return push_bio(L, ssl == p->client ? p->to_server : p->to_client);
}

/* p:read(side, bytes) -> plain text, "open", "ended" or "broken", and what is sent */
static int l_peer_read(lua_State *L)
{
    struct peer *p = luaL_checkudata(L, 1, PEER);
    SSL *ssl = side(L, p);
    size_t n, got;
    const char *bytes = luaL_checklstring(L, 3, &n), *state = NULL;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    (void)BIO_write(ssl == p->client ? p->to_client : p->to_server, bytes, (int)n);
    while (!state) {
        char *to = luaL_prepbuffsize(&b, TLS_RECORD_BYTES);
        ERR_clear_error();
        if (SSL_read_ex(ssl, to, TLS_RECORD_BYTES, &got) == 1) {
            luaL_addsize(&b, got);
            continue;
        }
        int why = SSL_get_error(ssl, 0);
        state = why == SSL_ERROR_WANT_READ     ? "open"
                : why == SSL_ERROR_ZERO_RETURN ? "ended"
                                               : "broken";
    }
    ERR_clear_error();
    luaL_pushresult(&b);
    lua_pushstring(L, state);
    push_bio(L, ssl == p->client ? p->to_server : p->to_client);
    return 3;
}

static int l_peer_free(lua_State *L)
{
    struct peer *p = luaL_checkudata(L, 1, PEER);
    SSL_free(p->client);
    SSL_free(p->server);
    SSL_CTX_free(p->client_ctx);
    SSL_CTX_free(p->server_ctx);
    memset(p, 0, sizeof *p);
    return 0;
}

int native_open_tls_record(lua_State *L)
{
    static const luaL_Reg record[] = {{"seal", l_seal},   {"open", l_open}, {"finish", l_finish},
                                      {"forge", l_forge}, {"keys", l_keys}, {"next", l_next},
                                      {"clear", l_clear}, {"__gc", l_free}, {NULL, NULL}};
    static const luaL_Reg peer[] = {{"write", l_peer_write},   {"read", l_peer_read},
                                    {"update", l_peer_update}, {"finish", l_peer_finish},
                                    {"__gc", l_peer_free},     {NULL, NULL}};
    static const luaL_Reg functions[] = {{"new", l_new}, {"peer", l_peer}, {NULL, NULL}};
    native_class(L, RECORD, record);
    native_class(L, PEER, peer);
    luaL_newlib(L, functions);
    return 1;
}
