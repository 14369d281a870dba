/* The program `tidegate-bench`: words to options, options to a run. It shares base/ with the broker
 * and nothing else. */
#include "base/program/build_info.h"
#include "bench/bench.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static void print_help(void)
{
    options_print_text(
        "usage: tidegate-bench MODE [options]\n\n"
        "Puts load on a broker and checks that it loses, doubles and reorders no event.\n\n"
        "Modes:\n"
        "  fan-out   every subscriber of a topic gets its events\n"
        "  topics    as many topics as subscribers\n"
        "  replay    history first, then subscribers that read all of it\n"
        "  churn     connect, wait for the head of the answer, disconnect\n"
        "  publish   acknowledged publishes, no subscribers\n"
        "  idle      streams that are only held: what each costs, with --pid\n"
        "  storm     all streams end, events are published, all reconnect at once\n"
        "            with their ids\n"
        "  snapshot  --preload events of each topic, then subscribers that begin with the\n"
        "            newest of each (start = \"latest\")\n"
        "  conflate  --slow of the subscribers of all topics read nothing; in the end all\n"
        "            have the newest event of each (on_lag = \"latest\")\n"
        "\n"
        "Exit codes: 0 all events arrived in order; 1 something went wrong, stderr says what. The "
        "events are real: use a broker whose events do not matter.\n"
        "\nOptions:\n");
    options_print(bench_option_rows);
}

int main(int argc, char **argv)
{
    struct bench_options options;
    int code = EX_OK;
    /* a peer that closed is an error code of write(2), not a signal */
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("tidegate-bench %s\n", build_info.version);
    } else if (bench_options_parse(&options, argv + 1, argc > 0 ? (size_t)argc - 1 : 0)) {
        return EX_USAGE;
    } else if (options.help) {
        print_help();
    } else {
        code = bench_run(&options);
    }
    /* a full disk or a closed pipe is not success */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("tidegate-bench: the output could not be written\n", stderr);
        return code ? code : EX_IOERR;
    }
    return code;
}
