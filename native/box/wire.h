/* One message with descriptors beside it. */
#ifndef BOX_WIRE_H
#define BOX_WIRE_H

#include <stddef.h>
#include <sys/types.h>

enum { BOX_WIRE_FDS = 16 };

int box_wire_send(int sock, const void *body, size_t size, const int *fds, size_t n_fds);
/* Returns the size of the message, also where that is more than there is room for, and 0 at the end, which an empty
 * message is too. *n_fds is the room and then how many came; spare ones are closed. */
ssize_t box_wire_receive(int sock, void *body, size_t size, int *fds, size_t *n_fds);

#endif
