/* What the files of /tmp share: the folder's key and its emptying. */
#ifndef BOX_SCRATCH_H
#define BOX_SCRATCH_H

#include "box.h"

/* Encrypt the empty folder `name` in `root`, and all that will be in it, with a random key that the file system alone
 * has; `key_id` (BOX_KEY_ID bytes) is what to call it by. */
int box_crypt_lock(int root, const char *name, uint8_t *key_id, struct box_error *err);
/* Destroy the key. Returns -1 unless it is gone and no file that it opened is in use. */
int box_crypt_forget(int root, const uint8_t *key_id);

/* Remove all that is in a folder, whatever its shape, with two descriptors. */
int box_folder_empty(int folder);

#endif
