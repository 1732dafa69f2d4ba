/* Network namespaces: made ahead of need with loopback up, and joined.
 *
 * A namespace is made on the calling thread, which leaves its own for that and comes back. One without a link reaches
 * its own loopback and nothing else; one with a link reaches the engine's router namespace (net_links). IPv6 is off on
 * a link, so that no rule has to be written twice; loopback keeps ::1. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static const char STAGE[] = "network namespace";
static const char OWN[] = "/proc/thread-self/ns/net";

int box_net_loopback_up(struct box_error *err)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    cleanup_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0)
        return box_fail(err, "loopback", "cannot bring it up");
    return 0;
}

int box_net_made_inside(const struct box_fork_request *request, const struct box_fork_fds *fds)
{
    return fds->net < 0 && request->n_join > 0 && !request->own_user;
}

int box_net_enter(int ns, struct box_error *err)
{
    return setns(ns, CLONE_NEWNET) < 0 ? box_fail(err, STAGE, "cannot enter it") : 0;
}

/* Interfaces that come later have no IPv6. */
static int turn_ipv6_off(struct box_error *err)
{
    cleanup_close int knob = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);

    if (knob < 0 && errno == ENOENT)
        return 0; /* a kernel without IPv6 */
    return knob < 0 || write(knob, "1", 1) != 1 ? box_fail(err, STAGE, "cannot turn IPv6 off") : 0;
}

/* In a namespace that has just been made. */
static int furnish(const struct box_net_link *link, struct box_net *made, struct box_error *err)
{
    if (box_net_loopback_up(err) < 0)
        return -1;
    cleanup_close int ns = open(OWN, O_RDONLY | O_CLOEXEC), counters = -1;
    if (ns < 0)
        return box_fail(err, STAGE, "cannot hold it");
    if (link != NULL) {
        if (turn_ipv6_off(err) < 0 || box_net_join_router(ns, link, err) < 0)
            return -1;
        counters = open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC);
        if (counters < 0)
            return box_fail(err, STAGE, "cannot read its counters");
    }
    made->ns = box_take(&ns);
    made->counters = box_take(&counters);
    return 0;
}

int box_net_make(const struct box_net_link *link, struct box_net *made, struct box_error *err)
{
    cleanup_close int home = open(OWN, O_RDONLY | O_CLOEXEC);

    made->ns = made->counters = -1;
    if (home < 0 || unshare(CLONE_NEWNET) < 0)
        return box_fail(err, STAGE, "cannot make one");
    int status = furnish(link, made, err);
    if (setns(home, CLONE_NEWNET) < 0) {
        box_close_ptr(&made->ns);
        box_close_ptr(&made->counters);
        return box_fail(err, STAGE, "this thread cannot go back to its own");
    }
    return status;
}
