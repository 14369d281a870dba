/* Key sets in files: read at start, again when the file changes. See keyring.h. */
#include "auth/keyring_state.h"
#include "base/logging.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <uv.h>

static int read_bytes(FILE *f, const char *path, struct strbuf *text, struct stat *seen,
                      struct err *e)
{
    int rc = fstat(fileno(f), seen) ? -errno : 0;
    size_t n = 1;
    while (rc == 0 && n > 0) {
        rc = strbuf_reserve(text, 4096);
        if (rc == 0) {
            n = fread(text->data + text->len, 1, 4096, f);
            text->len += n;
        }
    }
    if (rc == 0 && ferror(f)) {
        rc = -errno;
    }
    if (rc == UV_ENOBUFS) {
        return err_set(e, UV_EINVAL, "%s: is longer than %d bytes", path, (int)JWKS_MAX_BYTES);
    }
    return rc ? err_set(e, rc, "%s: cannot be read: %s", path, uv_strerror(rc)) : 0;
}

int keyset_read_file(struct keyset *s, bool *is_new, struct err *e)
{
    struct strbuf text;
    FILE *f = fopen(s->where, "re");
    if (!f) {
        return err_set(e, -errno, "%s: cannot be read: %s", s->where, uv_strerror(-errno));
    }
    strbuf_init(&text, JWKS_MAX_BYTES + 4096); /* room to notice that it is longer */
    int rc = read_bytes(f, s->where, &text, &s->seen, e);
    fclose(f); /* opened for reading: nothing to lose */
    if (rc == 0 && keyset_take(s, strbuf_slice(&text), is_new, e)) {
        rc = err_context(e, "%s", s->where);
    }
    if (text.data) {
        OPENSSL_cleanse(text.data, text.cap);
    }
    strbuf_clear(&text);
    return rc;
}

static bool changed(const struct keyset *s)
{
    struct stat now;
    return stat(s->where, &now) == 0 &&
           (now.st_mtim.tv_sec != s->seen.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != s->seen.st_mtim.tv_nsec || now.st_size != s->seen.st_size ||
            now.st_ino != s->seen.st_ino || now.st_dev != s->seen.st_dev);
}

void keyset_reread_file(struct keyset *s, bool force)
{
    struct err e;
    bool is_new = false;
    if (!force && !changed(s)) {
        return;
    }
    if (keyset_read_file(s, &is_new, &e)) {
        s->k->metrics->key_read_failures++;
        log_error("keys", "the old keys stay: the file is no good",
                  LOG_F(log_str("keys", s->name), log_str("error", e.text)));
        return;
    }
    s->k->metrics->key_reads++;
    if (is_new) {
        log_info("keys", "keys read again",
                 LOG_F(log_str("keys", s->name), log_uint("count", s->keys->n)));
    }
}
