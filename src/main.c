/* The program: hands its arguments to the command line. */
#include "commands/commands.h"

#include <signal.h>

int main(int argc, char **argv)
{
    /* a peer that closed is an error code of write(2), not a signal */
    signal(SIGPIPE, SIG_IGN);
    return commands_run(argc, argv);
}
