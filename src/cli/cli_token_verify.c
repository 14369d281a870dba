#include "cli/cli_token_verify.h"

#include "auth/keyring.h"
#include "server/server_keys.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

enum { EX_NOT_VALID = 1 };

static void token_print_time(const char *what, int64_t unix_s)
{
    char text[40];
    time_t t = (time_t)unix_s;
    struct tm utc;
    if (gmtime_r(&t, &utc) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc)) {
        printf("%s %s\n", what, text);
    }
}

static void token_print_valid(const struct keyset *set, const struct jwt *t)
{
    json_t *claims = json_loadb(t->claims.data, t->claims.len, 0, NULL);
    printf("valid: signed with a key of keys.%s\n", keyset_name(set));
    if (t->till_s != INT64_MAX) {
        token_print_time("until", t->till_s);
    } else {
        printf("until the key changes: it has no exp, which policies refuse unless they say "
               "otherwise\n");
    }
    (void)json_dumpf(claims, stdout,
                     JSON_INDENT(2) | JSON_ENSURE_ASCII); /* escapes controls, too */
    putchar('\n');
    json_decref(claims);
}

/* The header, before anything of it is to be believed. */
static const char *token_unusable(struct slice token)
{
    size_t dots = 0;
    for (size_t i = 0; i < token.n; i++) {
        dots += token.p[i] == '.';
    }
    return token.n > JWT_MAX_BYTES ? "longer than a token can be"
           : dots != 2 ? "no JSON Web Token: three parts with dots between were expected"
                       : NULL;
}

/* 0: it is valid, and that was printed. */
static int token_try(struct keyset *set, struct slice token)
{
    struct jwt t = {.why = NULL};
    const struct jwt_options o = {.algs = keyset_algs(set), .any_aud = true, .exp_optional = true};
    strbuf_init(&t.claims, JWT_MAX_BYTES);
    enum jwt_outcome outcome = keyset_verify(set, token, &o, (int64_t)time(NULL), &t);
    if (outcome == JWT_OK) {
        token_print_valid(set, &t);
    } else {
        fprintf(stderr, "tidegate token: keys.%s: %s\n", keyset_name(set),
                outcome == JWT_BAD && t.why ? t.why
                                            : "its keys are at a URL, which only a broker fetches");
    }
    strbuf_clear(&t.claims);
    return outcome == JWT_OK ? 0 : EX_NOT_VALID;
}

int cli_token_verify(const struct config *cfg, const char *set, struct slice token)
{
    struct keyring *ring = NULL;
    struct err e = {0};
    int code = EX_NOT_VALID;
    const char *unusable = token_unusable(token);
    if (unusable) {
        fprintf(stderr, "tidegate token: %s\n", unusable);
        return EX_NOT_VALID;
    }
    if (server_keys_open(&ring, cfg, &e)) {
        fprintf(stderr, "tidegate token: %s\n", e.text);
        return EX_CONFIG;
    }
    struct keyset *one = NULL;
    size_t tried = 0;
    for (size_t i = 0; code && (one = keyring_at(ring, i)) != NULL; i++) {
        if (!set || strcmp(keyset_name(one), set) == 0) {
            code = token_try(one, token);
            tried++;
        }
    }
    keyring_close(ring);
    if (tried == 0) {
        fprintf(stderr, "tidegate token: the configuration has no %s\n",
                set ? "such key set" : "keys");
        return EX_CONFIG;
    }
    return code;
}
