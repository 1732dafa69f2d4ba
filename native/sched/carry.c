/* From a guest's pipe to a client's socket: carry.h. */
#include "carry.h"

#include "lane.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KIND_CHUNK = 21, MESSAGE_PRELUDE = 12, MESSAGE_CRC = 4 };

int carry_open(struct carry *carry, int out, const void *headers, size_t headers_size)
{
    if (headers_size > CARRY_HEADERS)
        return -1;
    memset(carry, 0, offsetof(struct carry, crc));
    carry->in = -1;
    carry->out = out;
    carry->headers = headers_size;
    if (headers_size > 0) {
        memcpy(carry->headers_of, headers, headers_size);
        crc_fill(&carry->crc);
    }
    return 0;
}

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int byte = 0; byte < 4; byte++)
        at[byte] = (uint8_t)(value >> (24 - 8 * byte));
}

/* What lies in pieces[1..count] becomes one chunk of the coding. */
static void enclose(struct carry *carry, unsigned count, size_t size)
{
    size_t head = 0, tail = 0;

    if (carry->headers > 0) {
        /* A message: its length, that of its headers, the CRC of both; the headers, the bytes, and the CRC of it all.
         */
        uint8_t prelude[MESSAGE_PRELUDE];
        uint32_t crc;
        size += MESSAGE_PRELUDE + carry->headers + MESSAGE_CRC;
        put_u32(prelude, (uint32_t)size);
        put_u32(prelude + 4, (uint32_t)carry->headers);
        put_u32(prelude + 8, crc_of(&carry->crc, 0, prelude, 8));
        head = (size_t)snprintf((char *)carry->head, sizeof carry->head, "%zx\r\n", size);
        memcpy(carry->head + head, prelude, sizeof prelude);
        memcpy(carry->head + head + sizeof prelude, carry->headers_of, carry->headers);
        crc = crc_of(&carry->crc, 0, carry->head + head, sizeof prelude + carry->headers);
        for (unsigned piece = 1; piece <= count; piece++)
            crc = crc_of(&carry->crc, crc, carry->pieces[piece].iov_base, carry->pieces[piece].iov_len);
        head += sizeof prelude + carry->headers;
        put_u32(carry->tail, crc);
        tail = MESSAGE_CRC;
    } else {
        head = (size_t)snprintf((char *)carry->head, sizeof carry->head, "%zx\r\n", size);
    }
    memcpy(carry->tail + tail, "\r\n", 2);
    carry->pieces[0] = (struct iovec){carry->head, head};
    carry->pieces[count + 1] = (struct iovec){carry->tail, tail + 2};
    carry->first = 0;
    carry->count = count + 2;
}

void carry_put(struct carry *carry, const void *data, size_t size)
{
    carry->pieces[1] = (struct iovec){(void *)data, size};
    enclose(carry, 1, size);
}

int carry_take(struct carry *carry, int in, uint64_t left, const void *data, size_t size)
{
    if (size > sizeof carry->buffer)
        return -1;
    carry->in = in;
    carry->left = left;
    memcpy(carry->buffer, data, size);
    carry->at = 0;
    carry->end = size;
    return 0;
}

/* Whether the next frame's header is there, and is a chunk's that may be sent. */
static bool begin_chunk(struct carry *carry)
{
    const uint8_t *header = carry->buffer + carry->at;
    uint32_t length;

    if (carry->end - carry->at < LANE_HEADER)
        return false;
    memcpy(&length, header, sizeof length); /* little-endian, as is every machine that it is built for */
    if (header[4] != KIND_CHUNK || length == 0 || length > CARRY_CHUNK || length > carry->left) {
        carry->stuck = true;
        return false;
    }
    carry->at += LANE_HEADER;
    carry->left -= length;
    carry->body = length;
    return true;
}

/* Make one chunk of the coding of what was read, as far as it is chunks. */
static void gather(struct carry *carry)
{
    unsigned count = 0;
    size_t size = 0;

    while (count < CARRY_PIECES && carry->at < carry->end && (carry->body > 0 || begin_chunk(carry))) {
        size_t there = carry->end - carry->at;
        size_t piece = there < carry->body ? there : carry->body;
        if (piece == 0)
            break;
        carry->pieces[++count] = (struct iovec){carry->buffer + carry->at, piece};
        carry->at += piece;
        carry->body -= (uint32_t)piece;
        size += piece;
    }
    if (count > 0)
        enclose(carry, count, size);
}

enum carry_found carry_flush(struct carry *carry)
{
    while (carry->count > 0) {
        struct msghdr message = {.msg_iov = carry->pieces + carry->first, .msg_iovlen = carry->count};
        ssize_t sent = sendmsg(carry->out, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? CARRY_FULL : CARRY_GONE;
        while (carry->count > 0 && (size_t)sent >= carry->pieces[carry->first].iov_len) {
            sent -= (ssize_t)carry->pieces[carry->first].iov_len;
            carry->first++;
            carry->count--;
        }
        if (carry->count > 0) {
            struct iovec *piece = &carry->pieces[carry->first];
            piece->iov_base = (char *)piece->iov_base + sent;
            piece->iov_len -= (size_t)sent;
        }
    }
    return CARRY_EMPTY;
}

enum carry_found carry_turn(struct carry *carry)
{
    for (int reads = 0;;) {
        enum carry_found found = carry_flush(carry);
        if (found != CARRY_EMPTY)
            return found;
        gather(carry);
        if (carry->count > 0)
            continue;
        if (carry->stuck)
            return CARRY_FRAME;
        if (reads++ == CARRY_READS)
            return CARRY_EMPTY;
        /* What is left is the beginning of a header. */
        memmove(carry->buffer, carry->buffer + carry->at, carry->end - carry->at);
        carry->end -= carry->at;
        carry->at = 0;
        ssize_t got = read(carry->in, carry->buffer + carry->end, sizeof carry->buffer - carry->end);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return CARRY_EMPTY;
        if (got <= 0)
            return CARRY_END;
        carry->end += (size_t)got;
    }
}
