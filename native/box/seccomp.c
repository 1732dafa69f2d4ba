/* The system call filter: what a function has no business with, each entry with its reason.
 *
 * The kernel's checks on an unprivileged user without capabilities already refuse most of these; the filter takes away
 * the code that would have to be right for that. It answers by an errno, so that programs see an ordinary refusal.
 *
 * The program is a binary search over the numbers. When it is loaded the kernel runs it once for each system call there
 * is, to remember those that it always allows (Linux 5.11 on), so that what loading costs, on the path of a start, is
 * the steps of one search and not the length of the table; and a call that is remembered costs nothing more. */
#include "internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define FOREIGN_BIT 0x40000000u /* x32: the same architecture with other numbers */
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "no system call table for this architecture yet: add it here"
#endif

/* Calls that the headers to build with may not know yet; from 424 on the numbers are those of every architecture. */
enum {
    CALL_QUOTACTL_FD = 443,
    CALL_MEMFD_SECRET = 447,
    CALL_CACHESTAT = 451,
    CALL_STATMOUNT = 457,
    CALL_LISTMOUNT = 458,
    CALL_LSM_GET_SELF_ATTR = 459,
    CALL_LSM_SET_SELF_ATTR = 460,
    CALL_LSM_LIST_MODULES = 461,
    CALL_OPEN_TREE_ATTR = 467,
    CALL_FILE_SETATTR = 469,
    /* The table decides on all that Linux 6.18 has. What a later one adds is not there for a function until somebody
     * has looked at it; C libraries go on without. */
    FIRST_UNKNOWN = 470,
};

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

enum action {
    ALLOW,
    REFUSE,      /* EPERM */
    NOT_HERE,    /* ENOSYS: callers have another way */
    PRETEND,     /* success, and nothing is done */
    THREADS,     /* clone: threads and children, no namespaces */
    OWN_SOCKETS, /* socket: the families that a network namespace holds and the memory limit counts */
    NO_CORE,     /* setrlimit: all but the size of core dumps, which stays what it is */
    NO_CORE_64,  /* prlimit64: as above */
    SMALL_PAGES, /* mmap: no huge pages of the host's pool, which no memory limit counts */
    SMALL_MEMFD, /* memfd_create: as above */
    NO_COMMANDS, /* ioctl: all but those of COMMANDS */
    N_ACTIONS,
};

static const struct rule {
    unsigned number;
    enum action action;
    const char *reason;
} RULES[] = {
    {SYS_clone, THREADS, "new namespaces: a user namespace gives capabilities over untested kernel code"},
    {SYS_clone3, NOT_HERE, "hides its flags behind a pointer; every C library goes on with clone"},
    {SYS_unshare, REFUSE, "new namespaces"},
    {SYS_setns, REFUSE, "joining namespaces"},

    {SYS_mount, REFUSE, "mounting: the root is what the engine made it"},
    {SYS_umount2, REFUSE, "uncovering what a mount hides"},
    {SYS_pivot_root, REFUSE, "leaving the root"},
    {SYS_chroot, REFUSE, "a root of its own, and the classic way out of one"},
    {SYS_open_tree, REFUSE, "new mount interface"},
    {CALL_OPEN_TREE_ATTR, REFUSE, "new mount interface"},
    {SYS_move_mount, REFUSE, "new mount interface"},
    {SYS_fsopen, REFUSE, "new mount interface"},
    {SYS_fsconfig, REFUSE, "new mount interface"},
    {SYS_fsmount, REFUSE, "new mount interface"},
    {SYS_fspick, REFUSE, "new mount interface"},
    {SYS_mount_setattr, REFUSE, "new mount interface"},
    {CALL_STATMOUNT, REFUSE, "what is mounted from where on the host"},
    {CALL_LISTMOUNT, REFUSE, "as above"},
    {SYS_quotactl, REFUSE, "quotas"},
    {CALL_QUOTACTL_FD, REFUSE, "quotas"},
    {SYS_swapon, REFUSE, "swap"},
    {SYS_swapoff, REFUSE, "swap"},
    {SYS_acct, REFUSE, "accounting files"},
    {SYS_fanotify_init, REFUSE, "watching a whole file system"},
    {SYS_name_to_handle_at, REFUSE, "the inode numbers that the next one wants"},
    {SYS_open_by_handle_at, REFUSE, "files by inode number, past every path"},
    {SYS_sync, PRETEND, "writes out every file system of the host, and nobody can kill who waits for it"},
    {SYS_syncfs, PRETEND, "as above, for that of a file it may read"},
    {SYS_ioctl, NO_COMMANDS, "a second table of calls: see COMMANDS"},
    {CALL_FILE_SETATTR, REFUSE, "project ids and flags of files by a call of its own: see COMMANDS"},

    {SYS_socket, OWN_SOCKETS, "vsock reaches the hypervisor past every namespace; netlink's queues are not counted"},
    {SYS_socketpair, OWN_SOCKETS, "as above"},

    {SYS_bpf, REFUSE, "programs in the kernel"},
    {SYS_perf_event_open, REFUSE, "kernel addresses and side channels"},
    {SYS_userfaultfd, REFUSE, "stopping the kernel in the middle of a copy: the lever of many exploits"},
    {SYS_io_uring_setup, REFUSE, "a second way to make system calls, which this filter does not see"},
    {SYS_io_uring_enter, REFUSE, "as above"},
    {SYS_io_uring_register, REFUSE, "as above"},
    {SYS_io_setup, REFUSE, "its slots are counted for the whole host: one sandbox could take them all"},
    {SYS_add_key, REFUSE, "kernel keyrings are not namespaced"},
    {SYS_request_key, REFUSE, "as above"},
    {SYS_keyctl, REFUSE, "as above"},
    {SYS_kexec_load, REFUSE, "another kernel"},
    {SYS_kexec_file_load, REFUSE, "another kernel"},
    {SYS_init_module, REFUSE, "kernel modules"},
    {SYS_finit_module, REFUSE, "kernel modules"},
    {SYS_delete_module, REFUSE, "kernel modules"},
    {SYS_reboot, REFUSE, "ending a PID namespace as its power button"},
    {SYS_syslog, REFUSE, "the kernel's log"},
    {SYS_settimeofday, REFUSE, "the clock"},
    {SYS_clock_settime, REFUSE, "the clock"},
    {SYS_clock_adjtime, REFUSE, "the clock"},
    {SYS_adjtimex, REFUSE, "the clock"},
    {SYS_lookup_dcookie, REFUSE, "file names of the profiler"},

    {CALL_CACHESTAT, NOT_HERE, "which pages of shared files others have read; before 6.15 of any that it may read"},
    {CALL_MEMFD_SECRET, NOT_HERE, "splits the kernel's own map of memory, for the whole host"},
    {CALL_LSM_GET_SELF_ATTR, NOT_HERE, "how the host's security modules are set up"},
    {CALL_LSM_SET_SELF_ATTR, NOT_HERE, "as above, to change"},
    {CALL_LSM_LIST_MODULES, NOT_HERE, "as above"},

    {SYS_process_vm_writev, REFUSE, "writing into other processes"},
    {SYS_move_pages, REFUSE, "placing other processes' pages"},
    {SYS_migrate_pages, REFUSE, "as above"},
    {SYS_kcmp, REFUSE, "compares kernel pointers"},
    {SYS_setrlimit, NO_CORE, "a dump goes to the host's core handler, as root: see rlimits.c"},
    {SYS_prlimit64, NO_CORE_64, "as above"},
    {SYS_mmap, SMALL_PAGES, "the host's pool of huge pages"},
    {SYS_memfd_create, SMALL_MEMFD, "as above"},
#ifdef __x86_64__
    {SYS_iopl, REFUSE, "hardware ports"},
    {SYS_ioperm, REFUSE, "hardware ports"},
    {SYS_modify_ldt, REFUSE, "segments: 16-bit code has broken the kernel's entry more than once"},
    {SYS_uselib, REFUSE, "loading of libraries as Linux did it in 1995"},
#endif
};

/* Commands of ioctl, by type and number: their upper half, direction and size, differs between kernels. */
#define COMMAND(type, number) ((unsigned)(type) << 8 | (number))

static const struct {
    unsigned command;
    const char *reason;
} COMMANDS[] = {
    {COMMAND('f', 19), "FS_IOC_SET_ENCRYPTION_POLICY: /tmp has the engine's; nobody else's key is on its file system"},
    {COMMAND('f', 20), "FS_IOC_GET_ENCRYPTION_PWSALT: writes one to the file system itself"},
    {COMMAND('f', 21), "FS_IOC_GET_ENCRYPTION_POLICY: names the key that /tmp has"},
    {COMMAND('f', 22), "FS_IOC_GET_ENCRYPTION_POLICY_EX: as above"},
    {COMMAND('f', 23), "FS_IOC_ADD_ENCRYPTION_KEY: any user may, and the key would outlive the sandbox in its image"},
    {COMMAND('f', 24), "FS_IOC_REMOVE_ENCRYPTION_KEY"},
    {COMMAND('f', 25), "FS_IOC_REMOVE_ENCRYPTION_KEY_ALL_USERS"},
    {COMMAND('f', 26), "FS_IOC_GET_ENCRYPTION_KEY_STATUS"},
    {COMMAND('f', 27), "FS_IOC_GET_ENCRYPTION_NONCE"},
    {COMMAND('f', 2), "FS_IOC_SETFLAGS: takes a folder's inheritance of its project away"},
    {COMMAND(0x94, 1), "BTRFS_IOC_SNAP_CREATE: a subvolume of its own, which counts against no quota"},
    {COMMAND(0x94, 14), "BTRFS_IOC_SUBVOL_CREATE: as above"},
    {COMMAND(0x94, 23), "BTRFS_IOC_SNAP_CREATE_V2: as above"},
    {COMMAND(0x94, 24), "BTRFS_IOC_SUBVOL_CREATE_V2: as above"},
    {COMMAND('X', 32), "FS_IOC_FSSETXATTR: a file of another project counts against another quota"},
    {0x5412, "TIOCSTI: types into a terminal"},
    {0x541c, "TIOCLINUX: pastes into a console"},
    {0x540e, "TIOCSCTTY: makes a terminal its own, after which the two before need no privilege"},
    {0x5423, "TIOCSETD: line disciplines, which load modules and have been the way to root more than once"},
};

enum {
    N_COMMANDS = sizeof COMMANDS / sizeof *COMMANDS,
    N_RULES = sizeof RULES / sizeof *RULES,
    NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
        CLONE_NEWNET,
    MAX_RUNS = 2 * N_RULES + 2,
    MAX_LENGTH = MAX_RUNS + 60 + N_COMMANDS, /* the runs, and what comes before and after the search */
};
_Static_assert(MAX_LENGTH < 255, "the search is too long for a jump's 8 bits");

struct program {
    struct sock_filter code[MAX_LENGTH];
    unsigned char length;
    unsigned char at[N_ACTIONS]; /* where each action's instructions begin */
};

static void put(struct program *program, unsigned short operation, unsigned value, unsigned char yes, unsigned char no)
{
    program->code[program->length++] = (struct sock_filter){operation, yes, no, value};
}

static void load(struct program *program, unsigned offset)
{
    put(program, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

/* The low half of an argument, in the order of bytes that these architectures have. */
static void load_argument(struct program *program, unsigned which)
{
    load(program, offsetof(struct seccomp_data, args) + 8 * which);
}

static void answer(struct program *program, unsigned value)
{
    put(program, BPF_RET | BPF_K, value, 0, 0);
}

static void refuse(struct program *program, unsigned errnum)
{
    answer(program, SECCOMP_RET_ERRNO | (errnum & SECCOMP_RET_DATA));
}

/* Go `yes` or `no` instructions further. */
static void if_equal(struct program *program, unsigned value, unsigned char yes, unsigned char no)
{
    put(program, BPF_JMP | BPF_JEQ | BPF_K, value, yes, no);
}

static void if_any(struct program *program, unsigned bits, unsigned char yes, unsigned char no)
{
    put(program, BPF_JMP | BPF_JSET | BPF_K, bits, yes, no);
}

/* What is done where the search ends. A jump goes forward only, so these come last. */
static void put_actions(struct program *program)
{
    program->at[THREADS] = program->length;
    load_argument(program, 0);
    if_any(program, NAMESPACES, 0, 1);
    refuse(program, EPERM);
    answer(program, SECCOMP_RET_ALLOW);

    program->at[OWN_SOCKETS] = program->length;
    load_argument(program, 0);
    if_equal(program, AF_UNIX, 3, 0);
    if_equal(program, AF_INET, 2, 0);
    if_equal(program, AF_INET6, 1, 0);
    refuse(program, EAFNOSUPPORT);
    answer(program, SECCOMP_RET_ALLOW);

    program->at[NO_CORE] = program->length;
    load_argument(program, 0);
    if_equal(program, RLIMIT_CORE, 0, 1);
    refuse(program, 0);
    answer(program, SECCOMP_RET_ALLOW);

    program->at[NO_CORE_64] = program->length;
    load_argument(program, 1);
    if_equal(program, RLIMIT_CORE, 0, 5);
    load_argument(program, 2); /* the new limit's address: none where the old one is only asked for */
    if_equal(program, 0, 0, 2);
    load(program, offsetof(struct seccomp_data, args) + 8 * 2 + 4);
    if_equal(program, 0, 1, 0);
    refuse(program, 0);
    answer(program, SECCOMP_RET_ALLOW);

    program->at[SMALL_PAGES] = program->length;
    load_argument(program, 3);
    if_any(program, MAP_HUGETLB, 0, 1);
    refuse(program, ENOMEM);
    answer(program, SECCOMP_RET_ALLOW);

    program->at[SMALL_MEMFD] = program->length;
    load_argument(program, 1);
    if_any(program, MFD_HUGETLB, 0, 1);
    refuse(program, ENOMEM);
    answer(program, SECCOMP_RET_ALLOW);

    program->at[NO_COMMANDS] = program->length;
    load_argument(program, 1);
    put(program, BPF_ALU | BPF_AND | BPF_K, 0xffff, 0, 0);
    for (unsigned which = 0; which < N_COMMANDS; which++)
        if_equal(program, COMMANDS[which].command, (unsigned char)(N_COMMANDS - which), 0);
    answer(program, SECCOMP_RET_ALLOW);
    refuse(program, EPERM);

    program->at[ALLOW] = program->length;
    answer(program, SECCOMP_RET_ALLOW);
    program->at[REFUSE] = program->length;
    refuse(program, EPERM);
    program->at[NOT_HERE] = program->length;
    refuse(program, ENOSYS);
    program->at[PRETEND] = program->length;
    refuse(program, 0);
}

/* Numbers from `from` up to the next run's have one action. */
struct run {
    unsigned from;
    enum action action;
};

/* The table in order, with what is allowed between; returns how many runs. */
static unsigned sort(struct run *runs)
{
    struct rule rules[N_RULES];
    unsigned count = 0, next = 0;

    for (unsigned which = 0; which < N_RULES; which++) {
        unsigned place = which;
        for (; place > 0 && rules[place - 1].number > RULES[which].number; place--)
            rules[place] = rules[place - 1];
        rules[place] = RULES[which];
    }
    for (unsigned which = 0; which < N_RULES; next = rules[which++].number + 1) {
        if (rules[which].number > next || which == 0)
            runs[count++] = (struct run){next, ALLOW};
        if (runs[count - 1].action != rules[which].action)
            runs[count++] = (struct run){rules[which].number, rules[which].action};
    }
    runs[count++] = (struct run){next, ALLOW};
    runs[count++] = (struct run){FIRST_UNKNOWN, NOT_HERE};
    return count;
}

/* The number of instructions that find one of `count` runs. */
static unsigned search_length(unsigned count)
{
    return count - 1;
}

/* Find among runs[0..count): one comparison halves them. Jumps to actions are left open, as the action's name. */
static void put_search(struct program *program, const struct run *runs, unsigned count, unsigned char open[][2])
{
    unsigned half = count / 2, here = program->length;

    put(program, BPF_JMP | BPF_JGE | BPF_K, runs[half].from, (unsigned char)search_length(half), 0);
    open[here][0] = count - half == 1 ? runs[half].action + 1 : 0;
    open[here][1] = half == 1 ? runs[0].action + 1 : 0;
    if (half > 1)
        put_search(program, runs, half, open);
    if (count - half > 1)
        put_search(program, runs + half, count - half, open);
}

static void build(struct program *program)
{
    struct run runs[MAX_RUNS];
    unsigned char open[MAX_LENGTH][2] = {{0}};

    program->length = 0;
    /* A call by another architecture's numbers would pass for something else. */
    load(program, offsetof(struct seccomp_data, arch));
    if_equal(program, NATIVE_ARCH, 1, 0);
    answer(program, SECCOMP_RET_KILL_PROCESS);
    load(program, offsetof(struct seccomp_data, nr));
#ifdef FOREIGN_BIT
    put(program, BPF_JMP | BPF_JGE | BPF_K, FOREIGN_BIT, 0, 1);
    refuse(program, ENOSYS);
#endif
    put_search(program, runs, sort(runs), open);
    unsigned end = program->length;
    put_actions(program);
    for (unsigned which = 0; which < end; which++) {
        struct sock_filter *jump = &program->code[which];
        if (open[which][0])
            jump->jt = (unsigned char)(program->at[open[which][0] - 1] - which - 1);
        if (open[which][1])
            jump->jf = (unsigned char)(program->at[open[which][1] - 1] - which - 1);
    }
}

/* Built in the zygote, read in each sandbox. */
static struct program prepared;

void box_seccomp_prepare(void)
{
    build(&prepared);
}

int box_seccomp_load(struct box_error *err)
{
    const struct sock_fprog loaded = {.len = prepared.length, .filter = prepared.code};

    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &loaded) < 0)
        return box_fail(err, "seccomp", "cannot load the filter");
    return 0;
}
