/* The network of a sandbox without egress: its own namespace, with loopback up and nothing else. */
#include "internal.h"

#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int box_net_loopback_up(struct box_error *err)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    cleanup_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0)
        return box_fail(err, "loopback", "cannot bring it up");
    return 0;
}
