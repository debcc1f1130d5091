/*
 * The header of a frame (RFC 6455 section 5.2), read and written.
 *
 * Knows the header. Must never know a payload, or what is done with a frame.
 */
#ifndef ECHOD_FRAME_H
#define ECHOD_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec.h"
#include "sizes.h"
#include "unaligned.h"

/* RFC 6455 section 5.2. */
enum { FIN = 0x80, RSV1 = 0x40, OPCODE = 0x0F };
enum { OPCODE_TEXT = 0x1, OPCODE_BINARY = 0x2, OPCODE_CLOSE = 0x8, OPCODE_PING = 0x9, OPCODE_PONG = 0xA };
enum { MASK = 0x80, LENGTH_16 = 126, LENGTH_64 = 127 };

typedef struct {
    uint64_t length; /* of the payload */
    uint32_t key;    /* in memory order */
    uint8_t size;    /* bytes of the client's header */
    uint8_t opcode;
} frame_header;

/* What read_header finds. ECHOD_STOP_BOUNDARY stands for the whole header of an ordinary frame. */
typedef struct {
    echod_stop stop;
    uint64_t need; /* as in echod_echoed */
} verdict;

static const verdict ORDINARY = {ECHOD_STOP_BOUNDARY, 0};
static const verdict NOT_ORDINARY = {ECHOD_STOP_NOT_ORDINARY, 0};

static inline verdict need_more(uint64_t size)
{
    return (verdict){ECHOD_STOP_NEED_MORE, size};
}

/* The two longer forms of the length, in network byte order. */
static inline uint64_t read_length(const uint8_t *at, size_t size)
{
    uint64_t length = 0;
    for (size_t i = 0; i < size; i++)
        length = length << 8 | at[i];
    return length;
}

static inline uint8_t *write_length(uint8_t *at, uint64_t length, size_t size)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)(length >> (8 * (size - 1 - i)));
    return at + size;
}

/* Bytes that the shortest form of the length takes behind the second byte. */
static inline size_t length_size(uint64_t length)
{
    return length < LENGTH_16 ? 0 : length <= UINT16_MAX ? 2 : 8;
}

/* Read the header at octets[0, len), len > 0, as far as it has arrived. The first byte that no ordinary frame has there
   decides. */
static inline verdict read_header(const uint8_t *octets, size_t len, uint64_t max_message_size, frame_header *header)
{
    uint8_t opcode = octets[0] ^ FIN;
    if (opcode != OPCODE_TEXT && opcode != OPCODE_BINARY)
        return NOT_ORDINARY; /* a fragment, a reserved bit, a control frame, an unknown opcode */
    if (len < 2)
        return need_more(2);
    uint8_t length_7 = octets[1] ^ MASK;
    if (length_7 >= MASK)
        return NOT_ORDINARY; /* "a client MUST mask all frames that it sends", section 5.1 */

    uint64_t length = length_7;
    size_t size = length_7 < LENGTH_16 ? 0 : length_7 == LENGTH_16 ? 2 : 8;
    if (size) {
        if (len < 2 + size)
            return need_more(2 + size);
        length = read_length(octets + 2, size);
        if (length_size(length) != size || length > INT64_MAX)
            /* Section 5.2: "the minimal number of bytes MUST be used", "the most significant bit MUST be 0". */
            return NOT_ORDINARY;
    }
    uint64_t whole = 2 + size + KEY_SIZE + length;
    if (length > max_message_size)
        return (verdict){ECHOD_STOP_TOO_LARGE, whole};
    if (len < 2 + size + KEY_SIZE)
        return need_more(whole);
    *header = (frame_header){length, load_32(octets + 2 + size), (uint8_t)(2 + size + KEY_SIZE), opcode};
    return ORDINARY;
}

/* Write the first byte and the length. Returns their size. `mask` is MASK or 0. */
static inline size_t write_header(uint8_t *octets, uint8_t opcode, uint64_t length, uint8_t mask)
{
    octets[0] = FIN | opcode;
    size_t size = length_size(length);
    if (!size) {
        octets[1] = mask | (uint8_t)length;
        return 2;
    }
    octets[1] = mask | (size == 2 ? LENGTH_16 : LENGTH_64);
    write_length(octets + 2, length, size);
    return 2 + size;
}

/* Write a server's header in front of its payload, where there must be room. Returns its size. */
static inline size_t put_header_before(uint8_t *payload, uint8_t opcode, uint64_t length)
{
    uint8_t header[SERVER_HEADER];
    size_t size = write_header(header, opcode, length, 0);
    memcpy(payload - size, header, size);
    return size;
}

static inline size_t write_client_header(uint8_t *octets, uint8_t opcode, uint64_t length, uint32_t key)
{
    size_t size = write_header(octets, opcode, length, MASK);
    memcpy(octets + size, &key, KEY_SIZE);
    return size + KEY_SIZE;
}

#endif
