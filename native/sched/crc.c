/* CRC-32, by eight tables: crc.h. M. E. Kounavis, F. L. Berry, "Novel Table Lookup-Based Algorithms for
 * High-Performance CRC Generation", IEEE Transactions on Computers 57(11), 2008. */
#include "crc.h"

#include <string.h>

enum { BITS = 8 };

static const uint32_t POLYNOMIAL = 0xEDB88320;

void crc_fill(struct crc *crc)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < BITS; bit++)
            value = value >> 1 ^ (value & 1 ? POLYNOMIAL : 0);
        crc->table[0][byte] = value;
    }
    for (int which = 1; which < CRC_TABLES; which++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t before = crc->table[which - 1][byte];
            crc->table[which][byte] = before >> 8 ^ crc->table[0][before & 0xFF];
        }
}

uint32_t crc_of(const struct crc *crc, uint32_t before, const void *data, size_t size)
{
    const uint8_t *at = data;
    uint32_t value = ~before;

    for (; size >= 8; at += 8, size -= 8) {
        uint32_t low, high;
        memcpy(&low, at, sizeof low); /* little-endian, as is every machine that it is built for */
        memcpy(&high, at + 4, sizeof high);
        low ^= value;
        value = crc->table[7][low & 0xFF] ^ crc->table[6][low >> 8 & 0xFF] ^ crc->table[5][low >> 16 & 0xFF] ^
                crc->table[4][low >> 24] ^ crc->table[3][high & 0xFF] ^ crc->table[2][high >> 8 & 0xFF] ^
                crc->table[1][high >> 16 & 0xFF] ^ crc->table[0][high >> 24];
    }
    for (; size > 0; at++, size--)
        value = value >> 8 ^ crc->table[0][(value ^ *at) & 0xFF];
    return ~value;
}
