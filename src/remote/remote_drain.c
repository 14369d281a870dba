#include "remote/remote_drain.h"

#include "remote/remote_admin.h"

#include <stdio.h>

const char remote_drain_details[] =
    "Clients are told to reconnect, requests under way are answered, then the process ends. A service\n"
    "manager may start it again.\n"
    "\n"
    "Exit codes: 0 it drains; 69 no broker answers; 64 wrong arguments; 78 a wrong configuration.\n";

const struct option_row remote_drain_rows[] = {REMOTE_ADMIN_ROWS, {.name = NULL}};
static const struct options drain_options = {"tidegate", "drain", remote_drain_rows};

static void drain_print(const json_t *doc)
{
    (void)doc;
    printf("the broker drains, and ends then\n");
}

int remote_drain(char **words, size_t n)
{
    struct remote_admin_words w = {.json = false};
    int code = remote_admin_words(&drain_options, &w, words, n, NULL, NULL);
    return code ? code
                : remote_admin_show(&drain_options, &w, "POST", "/drain", 0, drain_print, NULL);
}
