/* The command line: `tidegate COMMAND ...`. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

/* Runs the command of argv[1]; answers the exit code (sysexits.h: 0, 64 wrong usage, 70 internal
 * error, 74 output failed, 78 wrong configuration or policy; of serve: server_run()'s). */
int cli_run(int argc, char **argv);

#endif
