/* Killing and waiting by pidfd: no race with a recycled pid. */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
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

int box_reap(int pidfd, int *status, struct box_error *err)
{
    siginfo_t info;

    memset(&info, 0, sizeof info);
    while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | __WALL) < 0) {
        if (errno == EINTR)
            continue;
        return box_fail(err, "reap", "cannot wait for the sandbox");
    }
    if (info.si_pid == 0)
        return 0;
    BOX_STEP("reaped");
    *status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : info.si_status & 0x7f;
    return 1;
}
