/* See pg_socket.h. A file of its own: <linux/tcp.h> knows more of struct tcp_info than
 * <netinet/tcp.h>, which uv.h includes, and does not go together with it. */
#include "pg/pg_socket.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

uint64_t pg_socket_consumed(int fd)
{
    struct tcp_info info;
    socklen_t n = sizeof info;
    int waiting = 0;
    memset(&info, 0, sizeof info);
    /* In this order: what comes in between makes the result too large by that, never negative. */
    if (ioctl(fd, FIONREAD, &waiting) != 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0) {
        return 0;
    }
    return (uint64_t)info.tcpi_bytes_received - (uint64_t)waiting;
}
