/* What the files of /tmp share: the folder's key and its emptying. */
#ifndef BOX_SCRATCH_H
#define BOX_SCRATCH_H

#include "box.h"

/* Encrypt the empty folder `name` in `root`, and all that will be in it, with a random key that the file system alone
 * has; `key_id` (BOX_KEY_ID bytes) is what to call it by. */
int box_crypt_lock(int root, const char *name, uint8_t *key_id, struct box_error *err);
/* Destroy the key. Returns -1 unless it is gone and no file that it opened is in use; `held` says if that alone is
 * missing: then nothing can be opened with it any more, and another call tells whether those files are let go. */
int box_crypt_forget(int root, const uint8_t *key_id, int *held);
/* Whether a folder is encrypted, and with which key. */
int box_crypt_key(int folder, uint8_t *key_id);

/* What projects and subvolumes share: their place, a name's number, the mount of what was made, and the removal of one
 * or the other. */
int box_tmp_folder_open(struct box_scratch *scratch, enum box_scratch_kind kind, const char *dir, unsigned flags,
                        struct box_error *err);
int box_tmp_folder_number(uint32_t *number, struct box_error *err);
int box_tmp_folder_mount(struct box_scratch *scratch, struct box_error *err);
int box_tmp_folder_remove(int folder, const char *name, struct box_error *err);
int box_project_remove(int root, const char *name, struct box_error *err);
int box_subvolume_remove(int root, const char *name, struct box_error *err);
int box_subvolume_used(const struct box_scratch *scratch, uint64_t *bytes, struct box_error *err);

/* Remove all that is in a folder, whatever its shape, with two descriptors. */
int box_folder_empty(int folder);

#endif
