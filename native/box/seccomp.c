/* The system call filter: what a function has no business with, each entry with its reason.
 *
 * The kernel's checks on an unprivileged user without capabilities already refuse most of these; the filter takes away
 * the code that would have to be right for that. It denies by EPERM, so that programs see an ordinary refusal. Loading
 * costs in proportion to its length, on the path of a start: keep it short (40 entries are about 0.1 ms). */
#include "internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define FOREIGN_BIT 0x40000000u /* x32: the same architecture with other numbers */
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "no system call table for this architecture yet: add it here"
#endif

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static const struct {
    unsigned number;
    const char *reason;
} DENIED[] = {
    {SYS_mount, "mounting: the root is what the engine made it"},
    {SYS_umount2, "uncovering what a mount hides"},
    {SYS_pivot_root, "leaving the root"},
    {SYS_chroot, "a root of its own, and the classic way out of one"},
    {SYS_open_tree, "new mount interface"},
    {SYS_move_mount, "new mount interface"},
    {SYS_fsopen, "new mount interface"},
    {SYS_fsconfig, "new mount interface"},
    {SYS_fsmount, "new mount interface"},
    {SYS_fspick, "new mount interface"},
    {SYS_mount_setattr, "new mount interface"},
    {SYS_unshare, "new namespaces: a user namespace gives capabilities over untested kernel code"},
    {SYS_setns, "joining namespaces"},
    {SYS_bpf, "programs in the kernel"},
    {SYS_perf_event_open, "kernel addresses and side channels"},
    {SYS_userfaultfd, "stopping the kernel in the middle of a copy: the lever of many exploits"},
    {SYS_io_uring_setup, "a second way to make system calls, which this filter does not see"},
    {SYS_io_uring_enter, "as above"},
    {SYS_io_uring_register, "as above"},
    {SYS_add_key, "kernel keyrings are not namespaced"},
    {SYS_request_key, "as above"},
    {SYS_keyctl, "as above"},
    {SYS_kexec_load, "another kernel"},
    {SYS_kexec_file_load, "another kernel"},
    {SYS_init_module, "kernel modules"},
    {SYS_finit_module, "kernel modules"},
    {SYS_delete_module, "kernel modules"},
    {SYS_reboot, "ending a PID namespace as its power button"},
    {SYS_swapon, "swap"},
    {SYS_swapoff, "swap"},
    {SYS_acct, "accounting files"},
    {SYS_quotactl, "quotas"},
    {SYS_syslog, "the kernel's log"},
    {SYS_settimeofday, "the clock"},
    {SYS_clock_settime, "the clock"},
    {SYS_clock_adjtime, "the clock"},
    {SYS_adjtimex, "the clock"},
    {SYS_open_by_handle_at, "files by inode number, past every path"},
    {SYS_process_vm_writev, "writing into other processes"},
    {SYS_fanotify_init, "watching a whole file system"},
    {SYS_move_pages, "placing other processes' pages"},
    {SYS_lookup_dcookie, "file names of the profiler"},
#ifdef __x86_64__
    {SYS_iopl, "hardware ports"},
    {SYS_ioperm, "hardware ports"},
    {SYS_modify_ldt, "segments: 16-bit code has broken the kernel's entry more than once"},
#endif
};

enum {
    N_DENIED = sizeof DENIED / sizeof *DENIED,
    NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
        CLONE_NEWNET,
    MAX_LENGTH = N_DENIED + 20,
};

#define LOAD(field) (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, (value))
#define IF_EQUAL(value, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define IF_ANY(bits, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), (yes), (no))
#define IF_AT_LEAST(value, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (value), (yes), (no))
#define REFUSE(number) ANSWER(SECCOMP_RET_ERRNO | ((number) & SECCOMP_RET_DATA))

/* The low half of an argument, in the order of bytes that these architectures have. */
#define ARGUMENT(which) (offsetof(struct seccomp_data, args) + 8 * (which))

static unsigned short build(struct sock_filter *program)
{
    unsigned short length = 0;

    /* A call by another architecture's numbers would pass for something else. */
    program[length++] = LOAD(arch);
    program[length++] = IF_EQUAL(NATIVE_ARCH, 1, 0);
    program[length++] = ANSWER(SECCOMP_RET_KILL_PROCESS);
    program[length++] = LOAD(nr);
#ifdef FOREIGN_BIT
    program[length++] = IF_AT_LEAST(FOREIGN_BIT, 0, 1);
    program[length++] = REFUSE(ENOSYS);
#endif
    /* clone3 hides its flags behind a pointer; ENOSYS makes every C library go on with clone. */
    program[length++] = IF_EQUAL(SYS_clone3, 0, 1);
    program[length++] = REFUSE(ENOSYS);
    /* clone is for threads and children, not for namespaces. */
    program[length++] = IF_EQUAL(SYS_clone, 0, 4);
    program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(0));
    program[length++] = IF_ANY(NAMESPACES, 0, 1);
    program[length++] = REFUSE(EPERM);
    program[length++] = ANSWER(SECCOMP_RET_ALLOW);
    for (unsigned which = 0; which < N_DENIED; which++)
        program[length++] = IF_EQUAL(DENIED[which].number, (unsigned char)(N_DENIED - which), 0);
    program[length++] = ANSWER(SECCOMP_RET_ALLOW);
    program[length++] = REFUSE(EPERM);
    return length;
}

int box_seccomp_load(struct box_error *err)
{
    struct sock_filter filter[MAX_LENGTH];
    struct sock_fprog program = {.len = build(filter), .filter = filter};

    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return box_fail(err, "seccomp", "cannot load the filter");
    return 0;
}
