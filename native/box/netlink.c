/* rtnetlink by hand: the few messages that links, addresses and routes need, without a library. */
#include "netlink.h"
#include "internal.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

int box_netlink_open(void)
{
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
}

/* Room for `size` bytes at the end, padded with zeros; NULL where there is none. */
static unsigned char *extend(struct box_netlink *message, size_t size)
{
    size_t padded = NLMSG_ALIGN(size);

    if (message->overflow || padded > sizeof message->bytes - message->length) {
        message->overflow = 1;
        return NULL;
    }
    unsigned char *at = message->bytes + message->length;
    memset(at, 0, padded);
    message->length += (uint32_t)padded;
    return at;
}

void box_netlink_start(struct box_netlink *message, uint16_t type, uint16_t flags, const void *body, size_t size)
{
    struct nlmsghdr header = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags};

    message->length = 0;
    message->overflow = 0;
    memcpy(extend(message, sizeof header), &header, sizeof header);
    unsigned char *at = extend(message, size);
    if (at != NULL)
        memcpy(at, body, size);
}

void box_netlink_put(struct box_netlink *message, uint16_t type, const void *data, size_t size)
{
    struct rtattr header = {.rta_len = (unsigned short)RTA_LENGTH(size), .rta_type = type};
    unsigned char *at = extend(message, RTA_LENGTH(size));

    if (at == NULL)
        return;
    memcpy(at, &header, sizeof header);
    if (size > 0)
        memcpy(at + RTA_LENGTH(0), data, size);
}

uint32_t box_netlink_nest(struct box_netlink *message, uint16_t type, const void *body, size_t size)
{
    uint32_t nest = message->length;

    box_netlink_put(message, type, body, size);
    return nest;
}

void box_netlink_end(struct box_netlink *message, uint32_t nest)
{
    if (message->overflow)
        return;
    unsigned short length = (unsigned short)(message->length - nest);
    memcpy(message->bytes + nest + offsetof(struct rtattr, rta_len), &length, sizeof length);
}

int box_netlink_call(int sock, struct box_netlink *message)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    _Alignas(NLMSG_ALIGNTO) unsigned char answer[BOX_NETLINK_ROOM + 256]; /* a refusal repeats the request */
    ssize_t got;

    if (message->overflow) {
        errno = EMSGSIZE;
        return -1;
    }
    memcpy(message->bytes + offsetof(struct nlmsghdr, nlmsg_len), &message->length, sizeof message->length);
    do
        got = sendto(sock, message->bytes, message->length, 0, (struct sockaddr *)&kernel, sizeof kernel);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -1;
    do
        got = recv(sock, answer, sizeof answer, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -1;
    const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
    if (got < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || header->nlmsg_type != NLMSG_ERROR) {
        errno = EPROTO;
        return -1;
    }
    int error = ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
    if (error == 0)
        return 0;
    errno = -error;
    return -1;
}
