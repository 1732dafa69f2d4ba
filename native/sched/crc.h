/* CRC-32 as zlib and AWS's event streams have it, eight bytes at a time.
 *
 * The tables belong to whoever has the struct: 8 KB that take some microseconds to fill. */
#ifndef CRC_H
#define CRC_H

#include <stddef.h>
#include <stdint.h>

enum { CRC_TABLES = 8 };

struct crc {
    uint32_t table[CRC_TABLES][256];
};

void crc_fill(struct crc *crc);
/* That of these bytes behind those whose it is `before`, 0 for none. */
uint32_t crc_of(const struct crc *crc, uint32_t before, const void *data, size_t size);

#endif
