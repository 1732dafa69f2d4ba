/* Giving up root for good: groups, ids, capabilities, and every way back. */
#include "internal.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const char STAGE[] = "privileges";

int box_privs_drop(uint32_t uid, struct box_error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    if (uid == 0) {
        errno = EINVAL;
        return box_fail(err, STAGE, "a sandbox never runs as root");
    }
    /* The bounding set first: dropping from it needs a capability that the next steps give up. */
    for (int capability = 0; capability < 64; capability++)
        if (prctl(PR_CAPBSET_DROP, capability) < 0) {
            if (errno == EINVAL)
                break; /* past the last one this kernel knows */
            return box_fail(err, STAGE, "cannot drop capability %d from the bounding set", capability);
        }
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        return box_fail(err, STAGE, "cannot become user %u", uid);
    if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return box_fail(err, STAGE, "cannot give up every capability");
    /* setresuid made the process undumpable, which hides its own /proc/self from it, and cleared the death signal. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return box_fail(err, STAGE, "cannot set the parent-death signal");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return box_fail(err, STAGE, "cannot set no_new_privs");
    return 0;
}
