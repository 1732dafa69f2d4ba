/* Request ids: random UUIDs of version 4 (RFC 9562), cut from blocks of the kernel's randomness. */
#ifndef IDS_H
#define IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/random.h>

enum { IDS_BYTES = 16, IDS_BLOCK = 256 * IDS_BYTES, IDS_TEXT = 36 };

struct ids {
    size_t left; /* of the block; all zero is a good beginning */
    uint8_t block[IDS_BLOCK];
};

/* The next one, without an end; 0, or -1 where the kernel gives no randomness. */
static inline int ids_next(struct ids *ids, char text[IDS_TEXT])
{
    static const char digits[] = "0123456789abcdef";

    if (ids->left == 0) {
        for (size_t got = 0; got < IDS_BLOCK;) {
            ssize_t more = getrandom(ids->block + got, IDS_BLOCK - got, 0);
            if (more <= 0)
                return -1;
            got += (size_t)more;
        }
        ids->left = IDS_BLOCK;
    }
    uint8_t *from = ids->block + ids->left - IDS_BYTES;
    ids->left -= IDS_BYTES;
    from[6] = (uint8_t)(0x40 | (from[6] & 0x0f));
    from[8] = (uint8_t)(0x80 | (from[8] & 0x3f));
    for (int byte = 0; byte < IDS_BYTES; byte++) {
        if (byte == 4 || byte == 6 || byte == 8 || byte == 10)
            *text++ = '-';
        *text++ = digits[from[byte] >> 4];
        *text++ = digits[from[byte] & 15];
        from[byte] = 0; /* no id is to be found here again */
    }
    return 0;
}

/* Whether it is a UUID, of any version and in either case. */
static inline bool ids_is(const char text[IDS_TEXT])
{
    for (int at = 0; at < IDS_TEXT; at++) {
        char digit = text[at];
        bool dash = at == 8 || at == 13 || at == 18 || at == 23;
        bool hex = (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f') || (digit >= 'A' && digit <= 'F');
        if (dash ? digit != '-' : !hex)
            return false;
    }
    return true;
}

#endif
