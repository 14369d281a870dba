/* A TLS client for specs, on libssl as it comes: on a connected, non-blocking socket that Lua owns. */
#include "native.h"
#include "net/tls/tls_secrets.h"
#include "net/tls/tls_tickets.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <string.h>

#define CONTEXT "tidegate.spec.tls.context"
#define CONN "tidegate.spec.tls.conn"
#define SESSION "tidegate.spec.tls.session"

static int push_error(lua_State *L, const char *what)
{
    unsigned long why = ERR_get_error();
    ERR_clear_error();
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", what, why ? ERR_reason_error_string(why) : "the connection broke");
    return 2;
}

static const char *text_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it alive */
    return text;
}

static void *check(lua_State *L, int at, const char *kind)
{
    void **p = luaL_checkudata(L, at, kind);
    luaL_argcheck(L, *p != NULL, at, "is closed");
    return *p;
}

/* Pushes one that is still empty: what is put into it is freed with it. */
static void **push_object(lua_State *L, const char *kind)
{
    void **p = lua_newuserdatauv(L, sizeof *p, 0);
    *p = NULL;
    luaL_setmetatable(L, kind);
    return p;
}

/* What a connection's userdata is: push_object()'s pointer, and what is borrowed by it. */
struct tls_client {
    void *ssl;
    struct tls_secrets secrets;
};

/* context{ ca =, cert =, key = (paths), alpn = (wire format), max = "1.2", suites = (of TLS 1.3) } */
static int l_context(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *ca = text_field(L, "ca"), *cert = text_field(L, "cert"),
               *key = text_field(L, "key");
    const char *max = text_field(L, "max"), *alpn = text_field(L, "alpn");
    void **object = push_object(L, CONTEXT);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    *object = ctx;
    if (ca) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
        if (SSL_CTX_load_verify_file(ctx, ca) != 1) {
            return push_error(L, ca);
        }
    }
    if (cert && (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
                 SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)) {
        return push_error(L, cert);
    }
    if (max && strcmp(max, "1.2") == 0 && SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION) != 1) {
        return push_error(L, max);
    }
    const char *suites = text_field(L, "suites");
    if (suites && SSL_CTX_set_ciphersuites(ctx, suites) != 1) {
        return push_error(L, suites);
    }
    SSL_CTX_set_keylog_callback(ctx, tls_secrets_on_line);
    if (alpn && SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)alpn, (unsigned)strlen(alpn))) {
        return push_error(L, "alpn");
    }
    return 1;
}

/* connect(context, fd[, name[, session]]) -> a connection; the handshake is handshake()'s */
static int l_connect(lua_State *L)
{
    SSL_CTX *ctx = check(L, 1, CONTEXT);
    int fd = (int)luaL_checkinteger(L, 2);
    const char *name = luaL_optstring(L, 3, NULL);
    struct tls_client *client = lua_newuserdatauv(L, sizeof *client, 0);
    memset(client, 0, sizeof *client);
    luaL_setmetatable(L, CONN);
    SSL *ssl = SSL_new(ctx);
    client->ssl = ssl;
    tls_secrets_watch(ssl, &client->secrets);
    if (SSL_set_fd(ssl, fd) != 1) {
        return push_error(L, "fd");
    }
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* what SSL_set_tlsext_host_name() does, without its cast */
    if (name && (SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                          (void *)(uintptr_t)name) != 1 ||
                 SSL_set1_host(ssl, name) != 1)) {
        return push_error(L, name);
    }
    if (!lua_isnoneornil(L, 4) && SSL_set_session(ssl, check(L, 4, SESSION)) != 1) {
        return push_error(L, "session");
    }
    SSL_set_connect_state(ssl);
    return 1;
}

/* "read" or "write": what has to be waited for; or what broke */
static int push_wait(lua_State *L, SSL *ssl, int rc)
{
    int why = SSL_get_error(ssl, rc);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        lua_pushnil(L);
        lua_pushstring(L, why == SSL_ERROR_WANT_READ ? "read" : "write");
        return 2;
    }
    long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK) {
        ERR_clear_error();
        lua_pushnil(L);
        lua_pushstring(L, X509_verify_cert_error_string(verdict));
        return 2;
    }
    return push_error(L, "handshake");
}

/* c:handshake() -> true, or nil and what to wait for ("read", "write") or an error */
static int l_handshake(lua_State *L)
{
    SSL *ssl = check(L, 1, CONN);
    ERR_clear_error();
    int rc = SSL_do_handshake(ssl);
    if (rc == 1) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return push_wait(L, ssl, rc);
}

/* c:send(bytes, from) -> last byte taken; as LuaSocket's with a timeout of 0 */
static int l_send(lua_State *L)
{
    SSL *ssl = check(L, 1, CONN);
    size_t n, done = 0;
    const char *bytes = luaL_checklstring(L, 2, &n);
    size_t from = (size_t)luaL_optinteger(L, 3, 1) - 1;
    ERR_clear_error();
    if (from >= n) {
        lua_pushinteger(L, (lua_Integer)n);
        return 1;
    }
    if (SSL_write_ex(ssl, bytes + from, n - from, &done) == 1) {
        if (from + done == n) {
            lua_pushinteger(L, (lua_Integer)n);
            return 1;
        }
    } else {
        int why = SSL_get_error(ssl, 0);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
            return push_error(L, "closed");
        }
    }
    lua_pushnil(L);
    lua_pushliteral(L, "timeout");
    lua_pushinteger(L, (lua_Integer)from + (lua_Integer)done);
    return 3;
}

/* c:receive(most) -> as LuaSocket's with a timeout of 0; "closed" only after close_notify, "cut" without */
static int l_receive(lua_State *L)
{
    SSL *ssl = check(L, 1, CONN);
    size_t most = (size_t)luaL_checkinteger(L, 2), n = 0;
    const char *why = NULL;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t got = 0; got < most && !why; got += n) {
        size_t room = most - got < 16384 ? most - got : 16384;
        char *at = luaL_prepbuffsize(&b, room);
        n = 0;
        ERR_clear_error();
        if (SSL_read_ex(ssl, at, room, &n) == 1) {
            luaL_addsize(&b, n);
            continue;
        }
        unsigned long detail = ERR_peek_error();
        switch (SSL_get_error(ssl, 0)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE:
            why = "timeout";
            break;
        case SSL_ERROR_ZERO_RETURN:
            why = "closed";
            break;
        default:
            why = ERR_GET_REASON(detail) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? "cut"
                  : detail ? ERR_reason_error_string(detail)
                           : "reset";
            break;
        }
    }
    ERR_clear_error();
    luaL_pushresult(&b);
    if (!why) {
        return 1;
    }
    lua_pushnil(L);
    lua_insert(L, -2);
    lua_pushstring(L, why);
    lua_insert(L, -2);
    return 3;
}

/* c:shutdown(): close_notify */
static int l_shutdown(lua_State *L)
{
    lua_pushinteger(L, SSL_shutdown(check(L, 1, CONN)));
    ERR_clear_error();
    return 1;
}

/* c:key_update(asks): a new key for what we send, and for what the peer sends if `asks` */
static int l_key_update(lua_State *L)
{
    int how = lua_toboolean(L, 2) ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
    lua_pushboolean(L, SSL_key_update(check(L, 1, CONN), how) == 1);
    return 1;
}

/* c:renegotiate(): begins another handshake (TLS 1.2); handshake() goes on with it. true, or nil and why not */
static int l_renegotiate(lua_State *L)
{
    SSL *ssl = check(L, 1, CONN);
    ERR_clear_error();
    if (SSL_renegotiate(ssl) != 1) {
        return push_error(L, "renegotiate");
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* c:info() -> { version, cipher, alpn, resumed, serial } */
static int l_info(lua_State *L)
{
    SSL *ssl = check(L, 1, CONN);
    const unsigned char *alpn;
    unsigned n;
    X509 *peer = SSL_get0_peer_certificate(ssl);
    lua_newtable(L);
    lua_pushstring(L, SSL_get_version(ssl));
    lua_setfield(L, -2, "version");
    lua_pushstring(L, SSL_get_cipher_name(ssl));
    lua_setfield(L, -2, "cipher");
    SSL_get0_alpn_selected(ssl, &alpn, &n);
    lua_pushlstring(L, n ? (const char *)alpn : "", n);
    lua_setfield(L, -2, "alpn");
    lua_pushboolean(L, SSL_session_reused(ssl));
    lua_setfield(L, -2, "resumed");
    if (peer) {
        lua_pushinteger(L, (lua_Integer)ASN1_INTEGER_get(X509_get0_serialNumber(peer)));
        lua_setfield(L, -2, "serial");
    }
    return 1;
}

/* c:secrets() -> of what the client sends, of what the server sends (TLS 1.3), as they were first; the number of the
 * suite */
static int l_secrets(lua_State *L)
{
    const SSL *ssl = check(L, 1, CONN);
    const struct tls_client *client = lua_touserdata(L, 1);
    lua_pushlstring(L, (const char *)client->secrets.client.bytes, client->secrets.client.n);
    lua_pushlstring(L, (const char *)client->secrets.server.bytes, client->secrets.server.n);
    lua_pushinteger(L, SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl)));
    return 3;
}

/* c:session() -> to be given to connect(); nil: the server has sent no ticket yet */
static int l_session(lua_State *L)
{
    SSL *ssl = check(L, 1, CONN);
    const SSL_SESSION *s = SSL_get0_session(ssl);
    if (!s || !SSL_SESSION_is_resumable(s)) {
        return 0;
    }
    void **object = push_object(L, SESSION);
    *object = SSL_get1_session(ssl);
    return 1;
}

/* ticket_chain(now) -> a chain of ticket keys */
static int l_ticket_chain(lua_State *L)
{
    struct tls_ticket_chain *c = lua_newuserdatauv(L, sizeof *c, 0);
    memset(c, 0, sizeof *c);
    if (tls_tickets_init(c, (uint64_t)luaL_checkinteger(L, 1))) {
        return luaL_error(L, "no random bytes");
    }
    return 1;
}

/* ticket_key(chain, now[, name]) -> what OpenSSL would be told, the name: of a new ticket, or of one with that name */
static int l_ticket_key(lua_State *L)
{
    struct tls_ticket_chain *c = lua_touserdata(L, 1);
    uint64_t now = (uint64_t)luaL_checkinteger(L, 2);
    size_t n = 0;
    const char *given = luaL_optlstring(L, 3, NULL, &n);
    unsigned char name[16] = {0}, iv[EVP_MAX_IV_LENGTH] = {0};
    luaL_argcheck(L, !given || n == sizeof name, 3, "16 bytes expected");
    if (given) {
        memcpy(name, given, sizeof name);
    }
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac);
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    int answer = tls_tickets_key(c, now, name, iv, cipher, mac, given == NULL);
    EVP_CIPHER_CTX_free(cipher);
    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(hmac);
    lua_pushinteger(L, answer);
    lua_pushlstring(L, (const char *)name, sizeof name);
    return 2;
}

static int l_free(lua_State *L)
{
    void **p = lua_touserdata(L, 1);
    SSL_free(*p);
    *p = NULL;
    return 0;
}

static int l_free_context(lua_State *L)
{
    void **p = lua_touserdata(L, 1);
    SSL_CTX_free(*p);
    *p = NULL;
    return 0;
}

static int l_free_session(lua_State *L)
{
    void **p = lua_touserdata(L, 1);
    SSL_SESSION_free(*p);
    *p = NULL;
    return 0;
}

int native_open_tls(lua_State *L)
{
    static const luaL_Reg context[] = {{"__gc", l_free_context}, {NULL, NULL}};
    static const luaL_Reg session[] = {{"__gc", l_free_session}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"handshake", l_handshake},
                                       {"send", l_send},
                                       {"receive", l_receive},
                                       {"shutdown", l_shutdown},
                                       {"key_update", l_key_update},
                                       {"renegotiate", l_renegotiate},
                                       {"info", l_info},
                                       {"secrets", l_secrets},
                                       {"session", l_session},
                                       {"free", l_free},
                                       {"__gc", l_free},
                                       {NULL, NULL}};
    static const luaL_Reg functions[] = {{"context", l_context},
                                         {"connect", l_connect},
                                         {"ticket_chain", l_ticket_chain},
                                         {"ticket_key", l_ticket_key},
                                         {NULL, NULL}};
    native_class(L, CONN, methods);
    native_class(L, CONTEXT, context);
    native_class(L, SESSION, session);
    luaL_newlib(L, functions);
    return 1;
}
