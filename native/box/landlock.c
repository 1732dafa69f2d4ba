/* Landlock: what a function may do with files and to others' processes, once more, whatever a mount, a mode or a
 * namespace should let through by mistake.
 *
 * A path counts only if it leads up to this sandbox's root: a descriptor of a folder outside, however it came in, opens
 * nothing below it. TCP is left to the network namespace and its rules, which know addresses where Landlock knows ports
 * only.
 *
 * It is a further wall and no limit that anybody asked for. A kernel that knows less of it enforces less, one without
 * it (before 5.13, or switched off) nothing, and `doctor` says which. The first version is not used: it forbids every
 * rename from one folder to another, in /tmp too. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>

static const char STAGE[] = "landlock";

/* The numbers and bits are those of every architecture; headers to build with may not know them all. */
enum { CALL_CREATE_RULESET = 444, CALL_ADD_RULE = 445, CALL_RESTRICT_SELF = 446 };
enum { GET_VERSION = 1, PATH_BENEATH = 1, LOG_NOTHING = 1 };
enum { VERSION_USED = 2, VERSION_SCOPES = 6, VERSION_LOGS = 7 };

enum {
    EXECUTE = 1 << 0,
    WRITE_FILE = 1 << 1,
    READ_FILE = 1 << 2,
    READ_FOLDER = 1 << 3,
    REMOVE = 3 << 4, /* folders, and whatever else */
    MAKE_CHARACTER_DEVICE = 1 << 6,
    MAKE = 0xf << 7 | 1 << 12, /* folders, files, sockets and pipes; symbolic links */
    MAKE_BLOCK_DEVICE = 1 << 11,
    REFER = 1 << 13,          /* links and renames between folders */
    TRUNCATE = 1 << 14,       /* from version 3 */
    DEVICE_CONTROL = 1 << 15, /* from version 5: ioctl on a device that it opens */
    SHOWN = EXECUTE | READ_FILE | READ_FOLDER,
    OWN = WRITE_FILE | REMOVE | MAKE | REFER | TRUNCATE,
};

/* What is refused wherever no place below allows it. */
static const struct {
    long version; /* that knows it */
    uint64_t access;
    const char *reason;
} HANDLED[] = {
    {2, SHOWN, "what is outside of the root"},
    {2, WRITE_FILE | REMOVE | MAKE | REFER, "every change but to what is its own"},
    {2, MAKE_CHARACTER_DEVICE | MAKE_BLOCK_DEVICE, "devices, by whatever capability: allowed nowhere"},
    {3, TRUNCATE, "a change too"},
    {5, DEVICE_CONTROL, "a device's own commands, should one turn up in /tmp or the code"},
};

static const struct {
    const char *path;
    uint64_t access;
    const char *reason;
} PLACES[] = {
    {"/", SHOWN, "the root holds what is shown and no more, code that is mounted later included"},
    {"/tmp", OWN, "the function's, under its quota"},
    {"/dev", WRITE_FILE | TRUNCATE | DEVICE_CONTROL, "the harmless ones: > /dev/null, isatty"},
};

enum {
    ABSTRACT_SOCKETS = 1 << 0, /* those made outside; of its network namespace there should be none */
    SIGNALS = 1 << 1,          /* to processes outside; its PID namespace should have none */
    SCOPES = ABSTRACT_SOCKETS | SIGNALS,
};

struct ruleset {
    uint64_t files, network, scopes;
};

struct path_beneath {
    uint64_t allowed;
    int32_t folder;
} __attribute__((packed));

int box_landlock_version(void)
{
    long version = syscall(CALL_CREATE_RULESET, NULL, 0, GET_VERSION);

    return version < 0 ? 0 : (int)version;
}

static int allow(int ruleset, const char *path, uint64_t access, struct box_error *err)
{
    cleanup_close int folder = open(path, O_PATH | O_CLOEXEC);
    struct path_beneath rule = {access, folder};

    if (folder < 0 || syscall(CALL_ADD_RULE, ruleset, PATH_BENEATH, &rule, 0) < 0)
        return box_fail(err, STAGE, "cannot allow %s", path);
    return 0;
}

int box_landlock_enter(struct box_error *err)
{
    int version = box_landlock_version();
    struct ruleset rules = {.scopes = version >= VERSION_SCOPES ? SCOPES : 0};

    if (version < VERSION_USED)
        return 0;
    for (size_t which = 0; which < sizeof HANDLED / sizeof *HANDLED; which++)
        if (version >= HANDLED[which].version)
            rules.files |= HANDLED[which].access;
    /* An older kernel takes the longer structure where the rest of it is zero. */
    cleanup_close int ruleset = (int)syscall(CALL_CREATE_RULESET, &rules, sizeof rules, 0);
    if (ruleset < 0)
        return box_fail(err, STAGE, "cannot make a ruleset");
    for (size_t which = 0; which < sizeof PLACES / sizeof *PLACES; which++)
        if (allow(ruleset, PLACES[which].path, PLACES[which].access & rules.files, err) < 0)
            return -1;
    /* A refusal is the function's affair: nothing for the host's audit log. */
    if (syscall(CALL_RESTRICT_SELF, ruleset, version >= VERSION_LOGS ? LOG_NOTHING : 0) < 0)
        return box_fail(err, STAGE, "cannot enter it");
    return 0;
}
