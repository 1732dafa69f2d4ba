/* Requests and replies between engine and zygote: one message each on a SOCK_SEQPACKET pair, descriptors beside it. */
#include "wire.h"
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char STAGE[] = "zygote";

union control {
    char bytes[CMSG_SPACE(BOX_WIRE_FDS * sizeof(int))];
    struct cmsghdr header;
};

int box_wire_send(int sock, const void *body, size_t size, const int *fds, size_t n_fds)
{
    struct iovec iov = {.iov_base = (void *)body, .iov_len = size};
    union control control;
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *header = &control.header; /* what CMSG_FIRSTHDR gives for a buffer with room */
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(sock, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)size ? 0 : -1;
}

ssize_t box_wire_receive(int sock, void *body, size_t size, int *fds, size_t *n_fds)
{
    struct iovec iov = {.iov_base = body, .iov_len = size};
    union control control;
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    size_t room = *n_fds;
    ssize_t got;

    *n_fds = 0;
    do
        got = recvmsg(sock, &message,
                      MSG_CMSG_CLOEXEC | MSG_TRUNC); /* TRUNC: the length of what came, not of what fits */
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t which = 0; which < count; which++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + which * sizeof fd, sizeof fd);
            if (*n_fds < room)
                fds[(*n_fds)++] = fd;
            else
                close(fd);
        }
    }
    return got;
}

static int send_request(int sock, const struct box_fork_request *request, const struct box_fork_fds *fds,
                        struct box_error *err)
{
    int flat[BOX_WIRE_FDS] = {fds->answers, fds->events, fds->log, fds->report, fds->tmp};
    size_t count = 5;

    if (request->code)
        flat[count++] = fds->code;
    if (request->opt)
        flat[count++] = fds->opt;
    if (request->net)
        flat[count++] = fds->net;
    if (request->into)
        flat[count++] = fds->into;
    for (uint32_t which = 0; which < request->n_join; which++)
        flat[count++] = fds->join[which];
    if (box_wire_send(sock, request, sizeof *request, flat, count) < 0)
        return box_fail(err, STAGE, "it does not take requests");
    BOX_STEP("fork: asked");
    return 0;
}

/* The answer to the oldest request: returns the pidfd and sets *pid. */
static int receive_answer(int sock, int timeout_ms, pid_t *pid, struct box_error *err)
{
    struct pollfd ready = {.fd = sock, .events = POLLIN};
    struct box_fork_reply reply;
    int pidfd = -1;
    size_t n_fds = 1;

    int polled;
    do
        polled = poll(&ready, 1, timeout_ms);
    while (polled < 0 && errno == EINTR);
    if (polled == 0)
        errno = ETIMEDOUT;
    if (polled <= 0)
        return box_fail(err, STAGE, "it does not answer");
    ssize_t got = box_wire_receive(sock, &reply, sizeof reply, &pidfd, &n_fds);
    if (got == 0)
        errno = EPIPE;
    else if (got > 0 && got != sizeof reply)
        errno = EPROTO;
    if (got != sizeof reply) {
        if (n_fds > 0)
            close(pidfd);
        return box_fail(err, STAGE, "it is gone");
    }
    if (reply.pid <= 0) {
        if (n_fds > 0)
            close(pidfd);
        *err = reply.error;
        err->stage[BOX_STAGE - 1] = err->text[BOX_TEXT - 1] = '\0';
        return -1;
    }
    if (n_fds == 0) {
        /* This process has no descriptor free for it. It is the parent, so the number is the child's until it waits; a
         * number that is no child's is nobody to kill. */
        siginfo_t info;
        if (waitid(P_PID, (id_t)reply.pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0) {
            kill(reply.pid, SIGKILL);
            while (waitpid(reply.pid, NULL, __WALL) < 0 && errno == EINTR)
                ;
        }
        errno = EMFILE;
        return box_fail(err, "descriptors", "no descriptor is free for the sandbox");
    }
    *pid = reply.pid;
    BOX_STEP("fork: answered");
    return pidfd;
}

int box_fork_ask(int sock, int journal, const struct box_fork_request *request, const struct box_fork_fds *fds,
                 int timeout_ms, pid_t *pid, struct box_error *err)
{
    static const pid_t nobody = 0;

    if (pwrite(journal, &nobody, sizeof nobody, 0) != sizeof nobody)
        return box_fail(err, "journal", "cannot clear the zygote's");
    return send_request(sock, request, fds, err) < 0 ? -1 : receive_answer(sock, timeout_ms, pid, err);
}
