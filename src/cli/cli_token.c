#include "cli/cli_token.h"

#include "base/decimal.h"
#include "base/program/read_file.h"
#include "base/strbuf.h"
#include "cli/cli_config.h"
#include "cli/cli_options.h"
#include "cli/cli_token_key.h"
#include "cli/cli_token_verify.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum {
    CLAIMS_MAX = 32,
    EXPIRES_S = 3600,
    TOKEN_MAX_BYTES = 2 * JWT_MAX_BYTES,
    ENCODED_MAX_BYTES = JWT_MAX_BYTES / 3 * 4 + 8,
};

const char cli_token_details[] =
    "Signs a token with a secret of the configuration's `keys`, or with --private-key, and prints it:\n"
    "for trying things out, and for publishers of your own. It is valid for one hour, unless --expires\n"
    "says otherwise.\n"
    "\n"
    "`tidegate token verify TOKEN [CONF]` verifies a token with all keys of the configuration, prints its\n"
    "claims, or says why each key set refuses it. @FILE: reads the token from a file, @-: from standard\n"
    "input. What the policy makes of the claims (issuer, audience) is not asked.\n"
    "\n"
    "Exit codes: 0 signed, or valid; 1 not valid; 64 wrong arguments; 65 no key can sign; 66 a file\n"
    "cannot be read; 78 a wrong configuration.\n";

struct token_words {
    const char *sub, *iss, *aud, *expires, *key, *kid, *alg, *private_key;
    const char *claims[CLAIMS_MAX];
    size_t claim_count;
    bool help;
};

const struct option_row cli_token_rows[] = {
    OPTION_ROW("--sub", "NAME", "who it is for (claim sub)", OPTION_TEXT,
               offsetof(struct token_words, sub)),
    OPTION_ROW("--claim", "NAME=VALUE",
               "another claim; a VALUE that is JSON (5, true, [\"a\"]) stays so, else it is a text",
               OPTION_LIST, offsetof(struct token_words, claims), .max = CLAIMS_MAX,
               .count_at = offsetof(struct token_words, claim_count), .many = "claims"),
    OPTION_ROW("--expires", "TIME",
               "how long it is valid: 90s, 15m, 1h, 30d, or never. Without it: 1h", OPTION_TEXT,
               offsetof(struct token_words, expires)),
    OPTION_ROW("--iss", "TEXT", "the issuer (claim iss)", OPTION_TEXT,
               offsetof(struct token_words, iss)),
    OPTION_ROW("--aud", "TEXT", "the audience (claim aud)", OPTION_TEXT,
               offsetof(struct token_words, aud)),
    OPTION_ROW("--key", "NAME", "the key set, if the configuration has several", OPTION_TEXT,
               offsetof(struct token_words, key)),
    OPTION_ROW("--private-key", "FILE",
               "sign with this private key (PEM), for key sets of public keys", OPTION_TEXT,
               offsetof(struct token_words, private_key)),
    OPTION_ROW("--kid", "ID", "the key's id, in the header", OPTION_TEXT,
               offsetof(struct token_words, kid)),
    OPTION_ROW("--alg", "NAME", "HS256, RS256, ES256, EdDSA, ...; without it: what fits the key",
               OPTION_TEXT, offsetof(struct token_words, alg)),
    OPTION_ROW("--help", NULL, "this text", OPTION_HELP, offsetof(struct token_words, help)),
    {.name = NULL},
};
static const struct options token_options = {"tidegate", "token", cli_token_rows};

/* ---------------------------------------------------------------- claims */

/* "15m" -> 900; "never" -> 0. */
static bool token_seconds(const char *text, uint64_t *out)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 24 * 3600}};
    size_t n = strlen(text);
    uint64_t count;
    if (strcmp(text, "never") == 0) {
        *out = 0;
        return true;
    }
    for (size_t i = 0; n > 1 && i < sizeof units / sizeof *units; i++) {
        if (text[n - 1] == units[i].unit &&
            decimal_parse(slice_of(text, n - 1), 1000000000, &count) && count > 0) {
            *out = count * units[i].seconds;
            return true;
        }
    }
    return false;
}

/* A new reference; NULL: the option was wrong, and that was said. */
static json_t *token_claims(const struct token_words *w)
{
    uint64_t expires_s = EXPIRES_S;
    int64_t now = (int64_t)time(NULL);
    if (w->expires && !token_seconds(w->expires, &expires_s)) {
        (void)options_refuse(&token_options, "--expires",
                             "%s: 90s, 15m, 1h, 30d or never was expected", w->expires);
        return NULL;
    }
    json_t *claims = json_object();
    for (size_t i = 0; i < w->claim_count; i++) {
        const char *equals = strchr(w->claims[i], '=');
        if (!equals || equals == w->claims[i]) {
            (void)options_refuse(&token_options, "--claim", "%s: NAME=VALUE was expected",
                                 w->claims[i]);
            json_decref(claims);
            return NULL;
        }
        json_t *value = json_loads(equals + 1, JSON_DECODE_ANY, NULL);
        (void)json_object_setn_new(claims, w->claims[i], (size_t)(equals - w->claims[i]),
                                   value ? value : json_string(equals + 1));
    }
    (void)(w->sub && json_object_set_new(claims, "sub", json_string(w->sub)));
    (void)(w->iss && json_object_set_new(claims, "iss", json_string(w->iss)));
    (void)(w->aud && json_object_set_new(claims, "aud", json_string(w->aud)));
    (void)json_object_set_new(claims, "iat", json_integer(now));
    (void)(expires_s && json_object_set_new(claims, "exp", json_integer(now + (int64_t)expires_s)));
    return claims;
}

/* ---------------------------------------------------------------- the token */

static int token_put_base64(struct strbuf *out, struct slice bytes)
{
    unsigned char text[ENCODED_MAX_BYTES];
    if (bytes.n > JWT_MAX_BYTES) {
        return UV_ENOBUFS;
    }
    int n = EVP_EncodeBlock(text, (const unsigned char *)bytes.p, (int)bytes.n);
    while (n > 0 && text[n - 1] == '=') {
        n--;
    }
    for (int i = 0; i < n; i++) {
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    }
    return strbuf_append(out, (const char *)text, (size_t)n);
}

static int token_put_json(struct strbuf *out, const json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    int rc = text ? token_put_base64(out, slice_str(text)) : UV_ENOMEM;
    free(text);
    return rc;
}

static int token_print(const struct token_key *key, const json_t *claims)
{
    struct strbuf token;
    struct jwt_bytes signature;
    json_t *header = json_pack("{s:s, s:s, s:s*}", "alg", jwa_table[key->alg].name, "typ", "JWT",
                               "kid", key->kid);
    strbuf_init(&token, TOKEN_MAX_BYTES);
    int rc = token_put_json(&token, header);
    rc = rc ? rc : strbuf_append(&token, ".", 1);
    rc = rc ? rc : token_put_json(&token, claims);
    bool good = rc == 0 && jwt_signer_sign(key->signer, key->alg, strbuf_slice(&token), &signature);
    if (good) {
        rc = strbuf_append(&token, ".", 1);
        rc =
            rc ? rc : token_put_base64(&token, slice_of((const char *)signature.data, signature.n));
    }
    if (!good || rc || token.len > JWT_MAX_BYTES) {
        fprintf(stderr, "tidegate token: %s\n",
                rc == UV_ENOBUFS || (good && token.len > JWT_MAX_BYTES)
                    ? "the claims are longer than a token can be"
                    : "libcrypto cannot sign");
        rc = EX_DATAERR;
    } else {
        printf("%s\n", token.data);
    }
    json_decref(header);
    strbuf_clear(&token);
    return rc;
}

static int token_sign(const struct token_words *w, const struct config *cfg)
{
    struct token_key key;
    const struct token_key_words about = {w->key, w->kid, w->alg, w->private_key};
    json_t *claims = token_claims(w);
    if (!claims) {
        return EX_USAGE;
    }
    int code = token_key_open(&token_options, cfg, &about, &key);
    code = code ? code : token_print(&key, claims);
    token_key_close(&key);
    json_decref(claims);
    return code;
}

/* ---------------------------------------------------------------- words */

int cli_token_read(const struct options *o, const char *about, const char *word, struct strbuf *out)
{
    bool file = *word == '@';
    if (!file && access(word, F_OK) == 0) {
        return options_refuse(o, about, "%s is a file: write @%s to use what it holds", word, word);
    }
    int rc = file ? read_file(word + 1, out) : strbuf_append_str(out, word);
    while (out->len && strchr(" \t\r\n", out->data[out->len - 1])) { /* files end so */
        out->data[--out->len] = '\0';
    }
    if (rc == UV_ENOBUFS) {
        (void)options_refuse(o, about, "larger than a token can be");
    } else if (rc) {
        (void)options_refuse(o, about, "%s: %s", file ? word + 1 : "it", uv_strerror(rc));
    } else if (out->len == 0) {
        (void)options_refuse(o, about, "%s: is empty", file ? word + 1 : "it");
    }
    return rc && file ? EX_NOINPUT : rc || out->len == 0 ? EX_USAGE : 0;
}

static int token_verify(const struct token_words *w, const struct config *cfg, const char *word)
{
    struct strbuf token;
    strbuf_init(&token, TOKEN_MAX_BYTES);
    int code = cli_token_read(&token_options, "TOKEN", word, &token);
    code = code ? code : cli_token_verify(cfg, w->key, strbuf_slice(&token));
    strbuf_clear(&token);
    return code;
}

int cli_token(char **words, size_t n)
{
    char *rest[3] = {NULL, NULL, NULL}; /* "verify", the token, the configuration */
    struct token_words w = {.help = false};
    struct config cfg;
    size_t count = 3;
    int code = options_parse(&token_options, &w, words, n, rest, &count);
    if (code || w.help) {
        return code ? code : CLI_HELP;
    }
    bool verify = count > 0 && strcmp(rest[0], "verify") == 0;
    if (verify ? count == 1 : count > 1) {
        return options_refuse(&token_options, verify ? "verify" : rest[1],
                              verify ? "a token was expected" : "unexpected argument");
    }
    const char *conf = verify ? rest[2] : rest[0];
    conf = conf ? conf : cli_config_default(NULL);
    if (!conf && (verify || !w.private_key)) {
        return options_refuse(&token_options, "CONF", "a configuration with `keys` was expected");
    }
    code = cli_config_load("token", conf, NULL, &cfg);
    if (code == 0) {
        code = verify ? token_verify(&w, &cfg, rest[1]) : token_sign(&w, &cfg);
        config_clear(&cfg);
    }
    return code;
}
