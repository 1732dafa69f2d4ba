/* Links between namespaces: pairs of virtual Ethernet devices, their addresses and routes. */
#include "internal.h"
#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

static const char STAGE[] = "network link";

int box_rtnl_open(struct box_error *err)
{
    int sock = box_netlink_open();

    return sock < 0 ? box_fail(err, STAGE, "cannot open rtnetlink") : sock;
}

static struct ifinfomsg described(uint32_t index, int up)
{
    return (struct ifinfomsg){
        .ifi_family = AF_UNSPEC, .ifi_index = (int)index, .ifi_flags = up ? IFF_UP : 0, .ifi_change = up ? IFF_UP : 0};
}

int box_link_pair(int sock, const struct box_link_end *near, const struct box_link_end *far, int far_ns, uint32_t mtu,
                  struct box_error *err)
{
    struct box_netlink message;
    struct ifinfomsg near_info = described(near->index, 1), far_info = described(far->index, 0);

    box_netlink_start(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &near_info, sizeof near_info);
    box_netlink_put(&message, IFLA_IFNAME, near->name, strlen(near->name) + 1);
    box_netlink_put(&message, IFLA_MTU, &mtu, sizeof mtu);
    uint32_t info = box_netlink_nest(&message, IFLA_LINKINFO, NULL, 0);
    box_netlink_put(&message, IFLA_INFO_KIND, "veth", 5);
    uint32_t data = box_netlink_nest(&message, IFLA_INFO_DATA, NULL, 0);
    uint32_t peer = box_netlink_nest(&message, VETH_INFO_PEER, &far_info, sizeof far_info);
    box_netlink_put(&message, IFLA_IFNAME, far->name, strlen(far->name) + 1);
    box_netlink_put(&message, IFLA_MTU, &mtu, sizeof mtu);
    box_netlink_put(&message, IFLA_NET_NS_FD, &far_ns, sizeof far_ns);
    box_netlink_end(&message, peer);
    box_netlink_end(&message, data);
    box_netlink_end(&message, info);
    if (box_netlink_call(sock, &message) < 0)
        return box_fail(err, STAGE, "cannot make %s", near->name);
    return 0;
}

int box_link_up(int sock, const char *name, struct box_error *err)
{
    struct box_netlink message;
    struct ifinfomsg info = described(0, 1);

    box_netlink_start(&message, RTM_NEWLINK, 0, &info, sizeof info);
    box_netlink_put(&message, IFLA_IFNAME, name, strlen(name) + 1);
    if (box_netlink_call(sock, &message) < 0)
        return box_fail(err, STAGE, "cannot bring %s up", name);
    return 0;
}

int box_link_remove(int sock, const char *name, struct box_error *err)
{
    struct box_netlink message;
    struct ifinfomsg info = described(0, 0);

    box_netlink_start(&message, RTM_DELLINK, 0, &info, sizeof info);
    box_netlink_put(&message, IFLA_IFNAME, name, strlen(name) + 1);
    if (box_netlink_call(sock, &message) == 0)
        return 1;
    return errno == ENODEV ? 0 : box_fail(err, STAGE, "cannot remove %s", name);
}

int box_address_add(int sock, uint32_t index, uint32_t address, uint8_t prefix, struct box_error *err)
{
    struct box_netlink message;
    struct ifaddrmsg info = {.ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = index};
    uint32_t network_order = htonl(address);

    box_netlink_start(&message, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    box_netlink_put(&message, IFA_LOCAL, &network_order, sizeof network_order);
    box_netlink_put(&message, IFA_ADDRESS, &network_order, sizeof network_order);
    if (box_netlink_call(sock, &message) < 0)
        return box_fail(err, STAGE, "cannot give interface %u its address", index);
    return 0;
}

int box_route_default(int sock, uint32_t via, struct box_error *err)
{
    struct box_netlink message;
    struct rtmsg info = {.rtm_family = AF_INET,
                         .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_STATIC,
                         .rtm_scope = RT_SCOPE_UNIVERSE,
                         .rtm_type = RTN_UNICAST};
    uint32_t network_order = htonl(via);

    box_netlink_start(&message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    box_netlink_put(&message, RTA_GATEWAY, &network_order, sizeof network_order);
    if (box_netlink_call(sock, &message) < 0)
        return box_fail(err, STAGE, "cannot set the default route");
    return 0;
}

/* From inside the sandbox's namespace: a pair whose other end is in the router's. */
int box_net_join_router(int own_ns, const struct box_net_link *link, struct box_error *err)
{
    struct box_link_end near = {.index = link->index}, far = {.name = "eth0"};

    snprintf(near.name, sizeof near.name, "s%u", link->index);
    if (box_link_pair(link->router_sock, &near, &far, own_ns, link->mtu, err) < 0 ||
        box_address_add(link->router_sock, link->index, link->outer, 31, err) < 0)
        return -1;
    cleanup_close int sock = box_rtnl_open(err);
    if (sock < 0)
        return -1;
    uint32_t index = if_nametoindex(far.name);
    if (index == 0)
        return box_fail(err, STAGE, "the interface of the sandbox is not there");
    if (box_address_add(sock, index, link->inner, 31, err) < 0 || box_link_up(sock, far.name, err) < 0)
        return -1;
    return box_route_default(sock, link->outer, err);
}
