/* The key of a /tmp: fscrypt, policy version 2, a random master key for each sandbox.
 *
 * Contents are AES-256-XTS and names AES-256-CTS: the pair that every kernel with fscrypt has. The key is in the
 * kernel's memory alone, hangs on the file system and is wiped with it: nothing that is on the disk afterwards can be
 * read. Sizes, times, modes and the number of files are not hidden. */
#include "internal.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fscrypt.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>

static const char STAGE[] = "tmp encryption";

_Static_assert(BOX_KEY_ID == FSCRYPT_KEY_IDENTIFIER_SIZE, "an identifier is as long as the kernel's");

int box_crypt_lock(int root, const char *name, uint8_t *key_id, struct box_error *err)
{
    struct {
        struct fscrypt_add_key_arg argument;
        uint8_t raw[FSCRYPT_MAX_KEY_SIZE];
    } key = {.argument = {.key_spec.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER, .raw_size = FSCRYPT_MAX_KEY_SIZE}};
    struct fscrypt_policy_v2 policy = {
        .version = FSCRYPT_POLICY_V2,
        .contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
        .filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
        .flags = FSCRYPT_POLICY_FLAGS_PAD_32,
    };
    struct fscrypt_get_policy_ex_arg found = {.policy_size = sizeof found.policy};

    if (getrandom(key.raw, sizeof key.raw, 0) != sizeof key.raw)
        return box_fail(err, STAGE, "no random key");
    int added = ioctl(root, FS_IOC_ADD_ENCRYPTION_KEY, &key);
    explicit_bzero(key.raw, sizeof key.raw);
    if (added < 0)
        return box_fail(err, STAGE, "this kernel or its ext4 takes no encryption key");
    memcpy(key_id, key.argument.key_spec.u.identifier, BOX_KEY_ID);
    memcpy(policy.master_key_identifier, key_id, BOX_KEY_ID);
    BOX_STEP("tmp: key added");
    cleanup_close int folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0 || ioctl(folder, FS_IOC_SET_ENCRYPTION_POLICY, &policy) < 0)
        return box_fail(err, STAGE, "this kernel cannot encrypt with AES-256-XTS and AES-256-CTS");
    /* Read back what is in force. */
    if (ioctl(folder, FS_IOC_GET_ENCRYPTION_POLICY_EX, &found) < 0)
        return box_fail(err, STAGE, "cannot read the policy back");
    if (memcmp(&found.policy.v2, &policy, sizeof policy) != 0) {
        errno = 0;
        return box_fail(err, STAGE, "the kernel has another policy than was written");
    }
    BOX_STEP("tmp: encrypted");
    return 0;
}

int box_crypt_forget(int root, const uint8_t *key_id, int *held)
{
    struct fscrypt_remove_key_arg key = {.key_spec.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER};

    *held = 0;
    memcpy(key.key_spec.u.identifier, key_id, BOX_KEY_ID);
    /* ENOKEY: wiped by an earlier call, and what was held then has been let go. */
    if (ioctl(root, FS_IOC_REMOVE_ENCRYPTION_KEY, &key) < 0 && errno != ENOKEY)
        return -1;
    if (key.removal_status_flags != 0) {
        *held = key.removal_status_flags == FSCRYPT_KEY_REMOVAL_STATUS_FLAG_FILES_BUSY;
        return -1;
    }
    BOX_STEP("tmp: key removed");
    return 0;
}

int box_crypt_key(int folder, uint8_t *key_id)
{
    struct fscrypt_get_policy_ex_arg found = {.policy_size = sizeof found.policy};

    if (ioctl(folder, FS_IOC_GET_ENCRYPTION_POLICY_EX, &found) < 0 || found.policy.version != FSCRYPT_POLICY_V2)
        return 0;
    memcpy(key_id, found.policy.v2.master_key_identifier, BOX_KEY_ID);
    return 1;
}
