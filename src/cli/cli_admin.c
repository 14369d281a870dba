#include "cli/cli_admin.h"

#include "cli/cli_config.h"

#include <stdio.h>
#include <sysexits.h>

int cli_admin_address(const struct options *o, const char *conf, const char *admin,
                      struct address *out)
{
    struct config cfg;
    struct err e = {0};
    if (conf && admin) {
        return options_refuse(o, "--admin", "with a configuration there is an address already");
    }
    conf = conf || admin ? conf : cli_config_default(NULL);
    if (!conf) {
        return address_parse(admin ? admin : CLI_ADMIN_DEFAULT, out, &e)
                   ? options_refuse(o, "--admin", "%s", e.text)
                   : 0;
    }
    int rc = cli_config_load(o->command, conf, NULL, &cfg);
    if (rc) {
        fprintf(stderr, "(to ask a broker without its configuration: --admin ADDRESS)\n");
        return rc;
    }
    if (!cfg.admin || address_parse(cfg.admin, out, &e)) {
        fprintf(stderr, "tidegate %s: %s: admin: %s\n", o->command, conf,
                cfg.admin ? e.text : "it is false: there is nobody to ask");
        rc = EX_CONFIG;
    }
    config_clear(&cfg);
    return rc;
}
