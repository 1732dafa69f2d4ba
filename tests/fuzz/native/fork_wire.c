/* A fuzz target over the C that reads messages: a zygote's requests, its answers, and the kernel's keyed files.
 *
 * An input is one byte for the reader, one for the number of descriptors beside the message, and the message; where the
 * first byte's highest bit is set, it is made a request's size and version, so that what comes after is reached. What
 * AddressSanitizer and UBSan do not see is checked here: no descriptor stays open, and nothing is taken for a request
 * that is none. Built by .ci/sanitize as a libFuzzer target where there is clang, and with driver.c elsewhere. */
#include "../../../native/box/forkserver.c" /* for what it keeps to itself */

#include <fcntl.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 4096, FDS_MAX = 24 };

static int null_fd = -1, pair[2];

static int lowest_free(void)
{
    int fd = dup(null_fd);
    close(fd);
    return fd;
}

static void require(int holds)
{
    if (!holds)
        abort();
}

static void send_message(const uint8_t *body, size_t size, size_t n_fds)
{
    char control[CMSG_SPACE(FDS_MAX * sizeof(int))] = {0};
    int fds[FDS_MAX];
    struct iovec iov = {.iov_base = (void *)body, .iov_len = size};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    for (size_t which = 0; which < n_fds; which++)
        fds[which] = null_fd;
    if (n_fds > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
    }
    require(sendmsg(pair[0], &message, 0) == (ssize_t)size);
}

/* As box_forkserver reads one. */
static void read_request(size_t sent)
{
    struct box_fork_request request;
    struct box_fork_fds fds;
    int flat[BOX_WIRE_FDS];
    size_t count = BOX_WIRE_FDS;

    ssize_t size = box_wire_receive(pair[1], &request, sizeof request, flat, &count);
    require(size == (ssize_t)sent && count <= BOX_WIRE_FDS);
    if (size > 0 && unpack(&request, size, flat, count, &fds) == 0) {
        require(sent == sizeof request && request.version == BOX_WIRE_VERSION && request.n_join <= BOX_HIERARCHIES);
        size_t code = count - 1 - request.n_join - (request.into != 0) - (request.net != 0);
        require(count > 4 && (request.code ? code > 4 && fds.code == flat[code] : fds.code == -1));
        require((fds.into >= 0) == (request.into != 0) && (fds.net >= 0) == (request.net != 0));
    }
    for (size_t which = 0; which < count; which++)
        close(flat[which]);
}

static void read_answer(void)
{
    struct box_error err = {0};
    pid_t pid = 0;

    int pidfd = box_fork_receive(pair[1], 0, &pid, &err);
    if (pidfd >= 0) {
        require(pid > 0);
        close(pidfd);
    } else {
        require(strlen(err.stage) < BOX_STAGE && strlen(err.text) < BOX_TEXT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[BODY_MAX + 1];

    if (null_fd < 0) {
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        require(null_fd >= 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    }
    if (size < 2 || size > BODY_MAX)
        return 0;
    int before = lowest_free();
    size_t n_fds = data[1] % (FDS_MAX + 1), body = size - 2;
    switch ((data[0] & 0x7f) % 3) {
    case 0:
        if (data[0] & 0x80) {
            struct box_fork_request request = {0};
            memcpy(&request, data + 2, body < sizeof request ? body : sizeof request);
            request.version = BOX_WIRE_VERSION;
            send_message((const uint8_t *)&request, sizeof request, n_fds);
            read_request(sizeof request);
            break;
        }
        send_message(data + 2, body, n_fds);
        read_request(body);
        break;
    case 1:
        send_message(data + 2, body, n_fds);
        read_answer();
        break;
    default:
        memcpy(text, data + 2, body);
        text[body] = '\0';
        box_keyed(text, "inactive_file");
        break;
    }
    require(lowest_free() == before);
    return 0;
}
