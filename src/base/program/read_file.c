#include "base/program/read_file.h"

#include <errno.h>
#include <string.h>
#include <uv.h>

enum { READ_STEP_BYTES = 64 * 1024 };

int read_stream(FILE *f, struct strbuf *out)
{
    for (;;) {
        size_t room = out->max - out->len;
        size_t step = room < READ_STEP_BYTES ? room : READ_STEP_BYTES;
        if (step == 0) { /* full: is there more? */
            int c = fgetc(f);
            return c != EOF ? UV_ENOBUFS : ferror(f) ? UV_EIO : 0;
        }
        int rc = strbuf_reserve(out, step);
        if (rc) {
            return rc;
        }
        errno = 0;
        size_t n = fread(out->data + out->len, 1, step, f);
        out->len += n;
        out->data[out->len] = '\0';
        if (n < step) {
            return !ferror(f) ? 0 : errno ? -errno : UV_EIO;
        }
    }
}

int read_file(const char *path, struct strbuf *out)
{
    bool standard = !path || strcmp(path, "-") == 0;
    FILE *f = standard ? stdin : fopen(path, "re");
    if (!f) {
        return -errno;
    }
    int rc = read_stream(f, out);
    if (!standard) {
        (void)fclose(f); /* opened for reading: nothing to lose */
    }
    return rc;
}
