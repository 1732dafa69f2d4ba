/* Killing and waiting by pidfd: no race with a recycled pid. */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int box_kill(int pidfd, struct box_error *err)
{
    BOX_STEP("kill");
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
        return box_fail(err, "kill", "cannot kill the sandbox");
    BOX_STEP("killed");
    return 0;
}

static uint64_t microseconds(const struct timeval *time)
{
    return (uint64_t)time->tv_sec * 1000000 + (uint64_t)time->tv_usec;
}

int box_reap(int pidfd, int *status, struct box_usage *usage, struct box_error *err)
{
    struct rusage used;
    siginfo_t info;

    memset(&info, 0, sizeof info);
    /* The C library's waitid keeps what the kernel says of usage to itself. */
    while (syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | WNOHANG | __WALL, &used) < 0) {
        if (errno == EINTR)
            continue;
        return box_fail(err, "reap", "cannot wait for the sandbox");
    }
    if (info.si_pid == 0)
        return 0;
    BOX_STEP("reaped");
    usage->peak_bytes = (uint64_t)used.ru_maxrss * 1024;
    usage->cpu_us = microseconds(&used.ru_utime) + microseconds(&used.ru_stime);
    *status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : info.si_status & 0x7f;
    return 1;
}
