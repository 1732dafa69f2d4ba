/* From a guest's pipe to a client's socket: relay.h. */
#include "relay.h"

#include "lane.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KIND_CHUNK = 21, MESSAGE_PRELUDE = 12, MESSAGE_CRC = 4 };

int relay_open(struct relay *relay, int out, const void *headers, size_t headers_size)
{
    if (headers_size > RELAY_HEADERS)
        return -1;
    memset(relay, 0, offsetof(struct relay, crc));
    relay->in = -1;
    relay->out = out;
    relay->headers = headers_size;
    if (headers_size > 0) {
        memcpy(relay->headers_of, headers, headers_size);
        crc_fill(&relay->crc);
    }
    return 0;
}

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int byte = 0; byte < 4; byte++)
        at[byte] = (uint8_t)(value >> (24 - 8 * byte));
}

/* What lies in pieces[1..count] becomes one chunk of the coding. */
static void enclose(struct relay *relay, unsigned count, size_t size)
{
    size_t head = 0, tail = 0;

    if (relay->headers > 0) {
        /* A message: its length, that of its headers, the CRC of both; the headers, the bytes, and the CRC of it all.
         */
        uint8_t prelude[MESSAGE_PRELUDE];
        uint32_t crc;
        size += MESSAGE_PRELUDE + relay->headers + MESSAGE_CRC;
        put_u32(prelude, (uint32_t)size);
        put_u32(prelude + 4, (uint32_t)relay->headers);
        put_u32(prelude + 8, crc_of(&relay->crc, 0, prelude, 8));
        head = (size_t)snprintf((char *)relay->head, sizeof relay->head, "%zx\r\n", size);
        memcpy(relay->head + head, prelude, sizeof prelude);
        memcpy(relay->head + head + sizeof prelude, relay->headers_of, relay->headers);
        crc = crc_of(&relay->crc, 0, relay->head + head, sizeof prelude + relay->headers);
        for (unsigned piece = 1; piece <= count; piece++)
            crc = crc_of(&relay->crc, crc, relay->pieces[piece].iov_base, relay->pieces[piece].iov_len);
        head += sizeof prelude + relay->headers;
        put_u32(relay->tail, crc);
        tail = MESSAGE_CRC;
    } else {
        head = (size_t)snprintf((char *)relay->head, sizeof relay->head, "%zx\r\n", size);
    }
    memcpy(relay->tail + tail, "\r\n", 2);
    relay->pieces[0] = (struct iovec){relay->head, head};
    relay->pieces[count + 1] = (struct iovec){relay->tail, tail + 2};
    relay->first = 0;
    relay->count = count + 2;
}

void relay_put(struct relay *relay, const void *data, size_t size)
{
    relay->pieces[1] = (struct iovec){(void *)data, size};
    enclose(relay, 1, size);
}

int relay_take(struct relay *relay, int in, uint64_t left, const void *data, size_t size)
{
    if (size > sizeof relay->buffer)
        return -1;
    relay->in = in;
    relay->left = left;
    memcpy(relay->buffer, data, size);
    relay->at = 0;
    relay->end = size;
    return 0;
}

/* Whether the next frame's header is there, and is a chunk's that may be sent. */
static bool begin_chunk(struct relay *relay)
{
    const uint8_t *header = relay->buffer + relay->at;
    uint32_t length;

    if (relay->end - relay->at < LANE_HEADER)
        return false;
    memcpy(&length, header, sizeof length); /* little-endian, as is every machine that it is built for */
    if (header[4] != KIND_CHUNK || length == 0 || length > RELAY_CHUNK || length > relay->left) {
        relay->stuck = true;
        return false;
    }
    relay->at += LANE_HEADER;
    relay->left -= length;
    relay->body = length;
    return true;
}

/* Make one chunk of the coding of what was read, as far as it is chunks. */
static void gather(struct relay *relay)
{
    unsigned count = 0;
    size_t size = 0;

    while (count < RELAY_PIECES && relay->at < relay->end && (relay->body > 0 || begin_chunk(relay))) {
        size_t there = relay->end - relay->at;
        size_t piece = there < relay->body ? there : relay->body;
        if (piece == 0)
            break;
        relay->pieces[++count] = (struct iovec){relay->buffer + relay->at, piece};
        relay->at += piece;
        relay->body -= (uint32_t)piece;
        size += piece;
    }
    if (count > 0)
        enclose(relay, count, size);
}

enum relay_found relay_flush(struct relay *relay)
{
    while (relay->count > 0) {
        struct msghdr message = {.msg_iov = relay->pieces + relay->first, .msg_iovlen = relay->count};
        ssize_t sent = sendmsg(relay->out, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? RELAY_FULL : RELAY_GONE;
        while (relay->count > 0 && (size_t)sent >= relay->pieces[relay->first].iov_len) {
            sent -= (ssize_t)relay->pieces[relay->first].iov_len;
            relay->first++;
            relay->count--;
        }
        if (relay->count > 0) {
            struct iovec *piece = &relay->pieces[relay->first];
            piece->iov_base = (char *)piece->iov_base + sent;
            piece->iov_len -= (size_t)sent;
        }
    }
    return RELAY_EMPTY;
}

enum relay_found relay_turn(struct relay *relay)
{
    for (int reads = 0;;) {
        enum relay_found found = relay_flush(relay);
        if (found != RELAY_EMPTY)
            return found;
        gather(relay);
        if (relay->count > 0)
            continue;
        if (relay->stuck)
            return RELAY_FRAME;
        if (reads++ == RELAY_READS)
            return RELAY_EMPTY;
        /* What is left is the beginning of a header. */
        memmove(relay->buffer, relay->buffer + relay->at, relay->end - relay->at);
        relay->end -= relay->at;
        relay->at = 0;
        ssize_t got = read(relay->in, relay->buffer + relay->end, sizeof relay->buffer - relay->end);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return RELAY_EMPTY;
        if (got <= 0)
            return RELAY_END;
        relay->end += (size_t)got;
    }
}
