#include "auth/jwt.h"

#include "auth/jwt_signature.h"
#include "base/text/base64.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIGNATURE_MAX_BYTES = 1024 };             /* RSA of 8192 bits */
static const double time_max_s = 253402300799.0; /* the end of the year 9999 */

/* The three parts, as they stand in the token. */
struct parts {
    struct slice header, payload, signature;
    struct slice input; /* what is signed: header and payload with the dot between */
};

struct head {
    enum jwt_alg alg;
    char kid[JWK_KID_MAX_BYTES + 1];
    bool has_kid;
};

/* ---------------------------------------------------------------- form */

static const char *jwt_split(struct slice token, struct parts *p)
{
    if (token.n > JWT_MAX_BYTES) {
        return "the token is longer than 65536 bytes";
    }
    const char *first = token.n ? memchr(token.p, '.', token.n) : NULL;
    const char *end = token.p + token.n;
    const char *second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;
    if (!second || memchr(second + 1, '.', (size_t)(end - second - 1))) {
        return "the token is not a signed JSON Web Token (three parts)";
    }
    p->header = slice_of(token.p, (size_t)(first - token.p));
    p->payload = slice_of(first + 1, (size_t)(second - first - 1));
    p->signature = slice_of(second + 1, (size_t)(end - second - 1));
    p->input = slice_of(token.p, (size_t)(second - token.p));
    return p->signature.n ? NULL : "the token has no signature";
}

/* Base64url into `out`, of JWT_MAX_BYTES; absent: it is not. */
static struct slice jwt_decode(struct slice part, unsigned char *out)
{
    size_t n;
    return base64url_decode(part, out, &n) ? slice_of(NULL, 0) : slice_of((const char *)out, n);
}

/* An object without duplicate members (RFC 8725, section 2.4), or NULL. */
static json_t *parse_object(struct slice text)
{
    json_error_t why;
    if (!text.p || memchr(text.p, '\0', text.n)) { /* jansson overlooks one behind a number */
        return NULL;
    }
    json_t *v = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &why);
    if (v && !json_is_object(v)) {
        json_decref(v);
        return NULL;
    }
    return v;
}

static struct slice jwt_text_of(const json_t *v)
{
    return json_is_string(v) ? slice_of(json_string_value(v), json_string_length(v))
                             : slice_of(NULL, 0);
}

/* ---------------------------------------------------------------- header */

/* RFC 7515, section 4.1.9: "application/" may be left out; media types know no case. */
static bool same_type(struct slice typ, struct slice wanted)
{
    enum { PREFIX = sizeof "application/" - 1 };
    if (typ.n > PREFIX && strncasecmp(typ.p, "application/", PREFIX) == 0) {
        typ = slice_of(typ.p + PREFIX, typ.n - PREFIX);
    }
    return slice_eq_nocase(typ, wanted);
}

/* Tokens of other kinds, signed with the same key, are no access tokens: RFC 8725, section 3.11. */
static bool type_ok(const json_t *header, struct slice wanted)
{
    const json_t *v = json_object_get(header, "typ");
    struct slice typ = jwt_text_of(v);
    if (wanted.p) {
        return typ.p && same_type(typ, wanted);
    }
    return !v ||
           (typ.p && (same_type(typ, slice_str("JWT")) || same_type(typ, slice_str("at+jwt"))));
}

static const char *check_header(const json_t *header, const struct jwt_options *o, struct head *h)
{
    int alg = jwa_find(jwt_text_of(json_object_get(header, "alg")));
    if (alg < 0 || !(o->algs & JWA_BIT(alg))) {
        return "the token's algorithm is not accepted";
    }
    if (json_object_get(header, "crit") || json_object_get(header, "b64")) {
        return "the token has critical header parameters that are not known here";
    }
    if (json_object_get(header, "cty") || json_object_get(header, "enc") ||
        json_object_get(header, "zip")) {
        return "nested, encrypted and compressed tokens are not accepted";
    }
    if (!type_ok(header, o->typ)) {
        return "the token is of another type (typ)";
    }
    const json_t *v = json_object_get(header, "kid");
    struct slice kid = jwt_text_of(v);
    if (v && (!kid.p || kid.n > JWK_KID_MAX_BYTES)) {
        return "the token's key id (kid) is not a text of at most 256 bytes";
    }
    h->alg = (enum jwt_alg)alg;
    h->has_kid = kid.p != NULL;
    if (kid.n) {
        memcpy(h->kid, kid.p, kid.n);
    }
    h->kid[kid.n] = '\0';
    return NULL;
}

static const char *read_header(struct slice part, const struct jwt_options *o, struct head *h)
{
    unsigned char raw[JWT_MAX_BYTES];
    json_t *header = parse_object(jwt_decode(part, raw));
    if (!header) {
        return "the token's header is not a JSON object in base64url";
    }
    const char *why = check_header(header, o, h);
    json_decref(header);
    return why;
}

/* ---------------------------------------------------------------- signature */

/* A key without a name of its own may be meant by any, and a token that names none means any. */
static bool may_be_meant(const struct jwk *k, const struct head *h)
{
    return (k->algs & JWA_BIT(h->alg)) && (!k->kid || !h->has_kid || strcmp(k->kid, h->kid) == 0);
}

static enum jwt_outcome check_signature(const struct jwks *set, const struct parts *p,
                                        const struct head *h, const char **why)
{
    unsigned char raw[JWT_MAX_BYTES];
    struct slice sig = jwt_decode(p->signature, raw);
    unsigned tries = 0;
    bool named = false;
    *why = "the token's signature is not valid";
    if (!sig.p || sig.n > SIGNATURE_MAX_BYTES) {
        return JWT_BAD;
    }
    for (size_t i = 0; i < set->n; i++) {
        const struct jwk *k = &set->keys[i];
        bool this_one = k->kid && h->has_kid && strcmp(k->kid, h->kid) == 0;
        named = named || this_one;
        /* the bound is for guessing: the key that the token names is always tried */
        if (may_be_meant(k, h) && (this_one || tries++ < JWT_TRIES) &&
            jwt_signature_ok(k, h->alg, p->input, sig)) {
            return JWT_OK;
        }
    }
    if (named || !h->has_kid) {
        return JWT_BAD;
    }
    *why = "the token is signed with an unknown key (kid)";
    return JWT_UNKNOWN_KEY;
}

/* ---------------------------------------------------------------- claims */

/* A NumericDate (RFC 7519, section 2). False: it is not one, or not of this age of the world. */
static bool time_of(const json_t *v, double *out)
{
    *out = json_number_value(v);
    return json_is_number(v) && fabs(*out) <= time_max_s;
}

static const char *check_times(const json_t *claims, const struct jwt_options *o, int64_t now_s,
                               struct jwt *out)
{
    const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
    const json_t *iat = json_object_get(claims, "iat");
    double at;
    out->from_s = INT64_MIN;
    out->till_s = INT64_MAX;
    if (!exp && !o->exp_optional) {
        return "the token has no expiry (exp)";
    }
    if (exp) {
        if (!time_of(exp, &at)) {
            return "the token's expiry (exp) is not a time";
        }
        out->till_s = (int64_t)ceil(at) + o->leeway_s;
    }
    if (nbf) {
        if (!time_of(nbf, &at)) {
            return "the token's beginning (nbf) is not a time";
        }
        out->from_s = (int64_t)ceil(at) - o->leeway_s;
    }
    if (iat && !time_of(iat, &at)) {
        return "the token's time of issue (iat) is not a time";
    }
    if (now_s >= out->till_s) {
        return "the token has expired";
    }
    return now_s < out->from_s ? "the token is not valid yet (nbf)" : NULL;
}

static bool audience_wanted(const json_t *v, const struct jwt_options *o)
{
    for (size_t i = 0; i < o->aud_n; i++) {
        if (json_is_string(v) && slice_eq(jwt_text_of(v), o->aud[i])) {
            return true;
        }
    }
    return false;
}

/* RFC 7519, section 4.1.3: who does not find itself among the audience must refuse, and so must who
 * looks for nobody. */
static bool audience_ok(const json_t *aud, const struct jwt_options *o)
{
    if (o->any_aud || (!aud && o->aud_n == 0)) {
        return true;
    }
    for (size_t i = 0; i < json_array_size(aud); i++) {
        if (audience_wanted(json_array_get(aud, i), o)) {
            return true;
        }
    }
    return audience_wanted(aud, o);
}

static const char *check_claims(const json_t *claims, const struct jwt_options *o, int64_t now_s,
                                struct jwt *out)
{
    const char *why = check_times(claims, o, now_s, out);
    if (why) {
        return why;
    }
    struct slice iss = jwt_text_of(json_object_get(claims, "iss"));
    if (o->iss.p && !(iss.p && slice_eq(iss, o->iss))) {
        return "the token is of another issuer (iss)";
    }
    return audience_ok(json_object_get(claims, "aud"), o)
               ? NULL
               : "the token is for another audience (aud)";
}

static enum jwt_outcome read_claims(struct slice part, const struct jwt_options *o, int64_t now_s,
                                    struct jwt *out)
{
    unsigned char raw[JWT_MAX_BYTES];
    struct slice text = jwt_decode(part, raw);
    json_t *claims = parse_object(text);
    if (!claims) {
        out->why = "the token's claims are not a JSON object without duplicates, in base64url";
        return JWT_BAD;
    }
    out->why = check_claims(claims, o, now_s, out);
    json_decref(claims);
    if (out->why) {
        return JWT_BAD;
    }
    return strbuf_append(&out->claims, text.p, text.n) ? JWT_FAILED : JWT_OK;
}

enum jwt_outcome jwt_verify(const struct jwks *set, struct slice token, const struct jwt_options *o,
                            int64_t now_s, struct jwt *out)
{
    struct parts p;
    struct head h;
    out->why = jwt_split(token, &p);
    if (!out->why) {
        out->why = read_header(p.header, o, &h);
    }
    if (out->why) {
        return JWT_BAD;
    }
    enum jwt_outcome outcome = check_signature(set, &p, &h, &out->why);
    return outcome == JWT_OK ? read_claims(p.payload, o, now_s, out) : outcome;
}
