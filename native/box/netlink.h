/* One rtnetlink request at a time: written into a buffer, sent, and answered by an acknowledgement. */
#ifndef BOX_NETLINK_H
#define BOX_NETLINK_H

#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

enum { BOX_NETLINK_ROOM = 1024 };

struct box_netlink {
    _Alignas(NLMSG_ALIGNTO) unsigned char bytes[BOX_NETLINK_ROOM];
    uint32_t length;
    int overflow; /* more was put than there is room for: the call fails */
};

/* A socket that speaks for the network namespace of the calling thread, wherever it is used from. */
int box_netlink_open(void);
void box_netlink_start(struct box_netlink *message, uint16_t type, uint16_t flags, const void *body, size_t size);
void box_netlink_put(struct box_netlink *message, uint16_t type, const void *data, size_t size);
/* An attribute that contains what is put until its end; `body` comes before those. Returns where it starts. */
uint32_t box_netlink_nest(struct box_netlink *message, uint16_t type, const void *body, size_t size);
void box_netlink_end(struct box_netlink *message, uint32_t nest);
/* Send it and wait for the kernel's answer: 0, or -1 with errno as the kernel gave it. One caller at a time a socket.
 */
int box_netlink_call(int sock, struct box_netlink *message);

#endif
