#include "remote/client/remote_text.h"

#include "cli/cli_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

const char *remote_duration(double seconds, char out[REMOTE_TEXT_MAX])
{
    uint64_t s = seconds > 0 ? (uint64_t)seconds : 0;
    uint64_t minutes = s / 60, hours = minutes / 60, days = hours / 24;
    if (s < 60) {
        snprintf(out, REMOTE_TEXT_MAX, "%" PRIu64 " s", s);
    } else if (hours == 0) {
        snprintf(out, REMOTE_TEXT_MAX, "%" PRIu64 " min", minutes);
    } else if (days == 0) {
        snprintf(out, REMOTE_TEXT_MAX, "%" PRIu64 " h %" PRIu64 " min", hours, minutes % 60);
    } else {
        snprintf(out, REMOTE_TEXT_MAX, "%" PRIu64 " d %" PRIu64 " h", days, hours % 24);
    }
    return out;
}

const char *remote_bytes(uint64_t bytes, char out[REMOTE_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    size_t i = 0;
    while (value >= 1024 && i + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        i++;
    }
    snprintf(out, REMOTE_TEXT_MAX, i ? "%.1f %s" : "%.0f %s", value, units[i]);
    return out;
}

void remote_put_policy(const json_t *policy)
{
    const char *label = cli_text_of(policy, "label");
    cli_put(stdout, slice_str(label));
    printf("%s%s", *label ? " " : "", cli_text_of(policy, "version"));
}

size_t remote_columns(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size)) {
        return SIZE_MAX;
    }
    return size.ws_col >= 40 ? size.ws_col : 80;
}
