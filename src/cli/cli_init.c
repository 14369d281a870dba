#include "cli/cli_init.h"

#include "base/program/embedded.h"
#include "base/require.h"
#include "base/strbuf.h"
#include "cli/cli_admin.h"
#include "cli/cli_options.h"
#include "net/address.h"
#include "tools/policy_check.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { INIT_FILE_MAX_BYTES = 64 * 1024, INIT_PATH_MAX = 4096, SECRET_BYTES = 32 };

const char cli_init_details[] =
    "Writes tidegate.lua, policy.lua, policy_spec.lua, samples.ndjson (requests for `tidegate check`) and\n"
    "secret (readable by you alone) into DIR, which it makes where it does not exist. They pass\n"
    "`tidegate check` and `tidegate test`, and `tidegate serve` runs with them. For your tools it writes\n"
    ".luarc.json (the Lua language server), .luacheckrc, .gitignore, and .github/workflows/policy.yml, which\n"
    "tests the policy at each push. A file that exists is never changed.\n"
    "\n"
    "Exit codes: 0 written; 73 a file exists, or cannot be written; 64 wrong arguments.\n";

struct init_words {
    const char *listen, *admin;
    const char *names; /* that policies have, for luacheck */
    bool help;
};

const struct option_row cli_init_rows[] = {
    OPTION_ROW("--listen", "HOST:PORT", "where clients connect. Without it: 127.0.0.1:8080",
               OPTION_TEXT, offsetof(struct init_words, listen)),
    OPTION_ROW("--admin", "HOST:PORT",
               "address of health, metrics and operations. Without it: " CLI_ADMIN_DEFAULT,
               OPTION_TEXT, offsetof(struct init_words, admin)),
    OPTION_ROW("--help", NULL, "this text", OPTION_HELP, offsetof(struct init_words, help)),
    {.name = NULL},
};
static const struct options init_options = {"tidegate", "init", cli_init_rows};

static const struct {
    const char *name, *from; /* NULL: the secret */
} init_files[] = {{"tidegate.lua", "scripts/init/tidegate.lua"},
                  {"policy.lua", "scripts/init/policy.lua"},
                  {"policy_spec.lua", "scripts/init/policy_spec.lua"},
                  {"samples.ndjson", "scripts/init/samples.ndjson"},
                  {".luarc.json", "scripts/init/luarc.json"},
                  {".luacheckrc", "scripts/init/luacheckrc"},
                  {".gitignore", "scripts/init/gitignore"},
                  {".github/workflows/policy.yml", "scripts/init/policy.yml"},
                  {"secret", NULL}};
enum { INIT_FILES = sizeof init_files / sizeof *init_files };

static int init_failed(const char *path, const char *why)
{
    fprintf(stderr, "tidegate init: %s: %s\n", path, why);
    return EX_CANTCREAT;
}

static int init_put_secret(struct strbuf *out)
{
    unsigned char bytes[SECRET_BYTES];
    int rc = RAND_bytes(bytes, sizeof bytes) == 1 ? 0 : -1;
    for (size_t i = 0; i < sizeof bytes && rc == 0; i++) {
        rc = strbuf_printf(out, "%02x", bytes[i]);
    }
    return rc ? rc : strbuf_append(out, "\n", 1);
}

/* The text of a file of the program, with its places filled in. */
static int init_put_file(struct strbuf *out, const char *from, const struct init_words *w)
{
    const char *const places[][2] = {
        {"@LISTEN@", w->listen}, {"@ADMIN@", w->admin}, {"@NAMES@", w->names}};
    const struct embedded *file = embedded_find(from);
    int rc = 0;
    REQUIRE(file);
    for (const char *p = file->data; *p && rc == 0;) {
        size_t n = strcspn(p + 1, "@") + 1;
        for (size_t i = 0; i < 3; i++) {
            size_t len = strlen(places[i][0]);
            if (strncmp(p, places[i][0], len) == 0) {
                rc = strbuf_append_str(out, places[i][1]);
                p += len;
                n = 0;
            }
        }
        rc = rc ? rc : strbuf_append(out, p, n);
        p += n;
    }
    return rc;
}

static int init_write(const char *path, mode_t mode, struct slice text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
        return init_failed(path, strerror(errno));
    }
    ssize_t n = write(fd, text.p, text.n);
    int rc = fsync(fd);
    rc = close(fd) || rc;
    return n == (ssize_t)text.n && rc == 0 ? 0 : init_failed(path, "cannot be written");
}

/* The directories of `path` behind its first `from` bytes. */
static int init_make_parents(char *path, size_t from)
{
    int code = 0;
    for (char *slash = strchr(path + from, '/'); slash && code == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        code = mkdir(path, 0755) && errno != EEXIST ? init_failed(path, strerror(errno)) : 0;
        *slash = '/';
    }
    return code;
}

static int init_write_all(const char *dir, const struct init_words *w)
{
    char path[INIT_PATH_MAX];
    struct strbuf text;
    int code = 0;
    strbuf_init(&text, INIT_FILE_MAX_BYTES);
    for (size_t i = 0; i < INIT_FILES && code == 0; i++) {
        bool secret = !init_files[i].from;
        strbuf_reset(&text);
        int rc = secret ? init_put_secret(&text) : init_put_file(&text, init_files[i].from, w);
        snprintf(path, sizeof path, "%s/%s", dir, init_files[i].name);
        code = rc ? init_failed(path, "memory or randomness is short")
                  : init_make_parents(path, strlen(dir) + 1);
        code = code ? code : init_write(path, secret ? 0600 : 0644, strbuf_slice(&text));
    }
    strbuf_clear(&text);
    return code;
}

/* Before anything is written. */
static int init_check_place(const char *dir)
{
    char path[INIT_PATH_MAX];
    struct stat st;
    if (strlen(dir) > INIT_PATH_MAX - 64) {
        return init_failed(dir, "is too long");
    }
    for (size_t i = 0; i < INIT_FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, init_files[i].name);
        if (lstat(path, &st) == 0) {
            return init_failed(path, "exists, and is not overwritten: name another directory");
        }
    }
    return mkdir(dir, 0755) && errno != EEXIST ? init_failed(dir, strerror(errno)) : 0;
}

static void init_print_steps(const char *dir, const char *listen)
{
    printf("%s has a configuration, a policy with its test and samples, and a secret. Now:\n\n"
           "  cd %s\n"
           "  tidegate check --samples samples.ndjson && tidegate test .\n"
           "  tidegate serve\n\n"
           "and in another terminal, also there:\n\n"
           "  tidegate token --sub ann > ann.token\n"
           "  tidegate token --sub shop --claim writer=true > shop.token\n"
           "  tidegate subscribe --token @ann.token\n\n"
           "and in a third one:\n\n"
           "  tidegate publish users/ann/orders 'a book' --token @shop.token\n"
           "  tidegate connections\n\n"
           "Or open http://%s/ in a browser, paste what ann.token holds, and subscribe to\n"
           "users/ann/** there.\n\n"
           "policy.lua says who may read and write what: change it, then `tidegate reload`.\n",
           dir, dir, listen);
}

static int init_check_address(const char *name, const char *text)
{
    struct address a;
    struct err e = {0};
    return address_parse(text, &a, &e) ? options_refuse(&init_options, name, "%s", e.text)
           : strpbrk(text, "\"\\\n")   ? options_refuse(&init_options, name, "%s: no address", text)
                                       : 0;
}

int cli_init(char **words, size_t n)
{
    char *dir = NULL;
    size_t count = 1;
    struct init_words w = {.help = false};
    int code = options_parse(&init_options, &w, words, n, &dir, &count);
    if (code || w.help) {
        return code ? code : CLI_HELP;
    }
    if (count == 0) {
        return options_refuse(&init_options, "DIR", "a directory was expected");
    }
    w.listen = w.listen ? w.listen : "127.0.0.1:8080";
    w.admin = w.admin ? w.admin : CLI_ADMIN_DEFAULT;
    code = init_check_address("--listen", w.listen);
    code = code ? code : init_check_address("--admin", w.admin);
    code = code ? code : init_check_place(dir);
    struct strbuf names;
    strbuf_init(&names, INIT_FILE_MAX_BYTES);
    if (code == 0 && policy_check_names(&names)) {
        code = init_failed(dir, "memory is short");
    }
    w.names = names.data ? names.data : "";
    code = code ? code : init_write_all(dir, &w);
    strbuf_clear(&names);
    if (code == 0) {
        init_print_steps(dir, w.listen);
    }
    return code;
}
