/*
 * Ordinary client frames become the server frames that echo them. codec.h says what this must never know.
 *
 * A server frame is four bytes shorter than the client frame that it echoes, because it has no masking key (RFC 6455
 * section 5.1). So the output, which is packed from the front of the buffer, never overtakes the input. Each payload is
 * unmasked and moved in one pass, and one send takes all frames.
 *
 *     before   | client frame | client frame | client fra        octets[0, len)
 *     after    | server frame | server frame |..| client fra      `produced` bytes, leftovers, then as before
 *
 * Text is checked after it was moved, piece by piece while a piece is in the first-level cache, and only if unmasking
 * found a byte above ASCII. If the text is invalid, its pieces are moved back and masked again, which restores the
 * bytes that came. A check before the move, through the mask, would avoid that, but would cost every valid frame a
 * second pass: measured with the AVX2 kernel, 15 instead of 7 ns for 1 KiB of ASCII, 31 instead of 20 us for 1 MiB, 84
 * instead of 73 us for 1 MiB of mixed text. An invalid frame ends its connection, so a connection restores one frame at
 * most.
 *
 * Messages of several frames are gathered by gather.c.
 */
#include <string.h>

#include "codec.h"
#include "frame.h"
#include "kernel.h"
#include "sizes.h"
#include "unmask.h"
#include "utf8.h"

/* Unmask any number of bytes. */
static inline uint64_t unmask(uint8_t *target, const uint8_t *source, size_t len, uint32_t key)
{
    if (len < BLOCK)
        return unmask_short(target, source, len, key);
    return echod_kernel_chosen->unmask(target, source, len, key);
}

/* Unmask and check a text. Returns how many bytes were unmasked: all, or fewer if *utf8 became UTF8_REJECT. */
static size_t unmask_text(uint8_t *target, const uint8_t *source, size_t len, uint32_t key, uint32_t *utf8)
{
    size_t at = 0;
    while (at < len && *utf8 != UTF8_REJECT) {
        size_t piece = len - at < CHECK_SIZE ? len - at : CHECK_SIZE;
        uint64_t seen = unmask(target + at, source + at, piece, key);
        if (*utf8 != UTF8_ACCEPT || (seen & HIGH_BITS))
            *utf8 = echod_kernel_chosen->utf8(*utf8, target + at, piece);
        at += piece;
    }
    return at;
}

/* Count a message. The index is the number of the highest set bit in twice the length minus one, without a branch. For
   an empty message the subtraction wraps around to an index of its own. */
static inline void sum(echod_sum *of_type, uint64_t length)
{
    of_type->sizes[63 ^ (unsigned)__builtin_clzll(2 * length - 1)]++;
    of_type->octets += length;
}

/* Turn the client frame at `from` into the server frame at `to`, four bytes shorter. 0: the frame is invalid, and was
   restored. */
static inline int echo_frame(uint8_t *to, uint8_t *from, const frame_header *header, echod_sums *sums)
{
    uint8_t *target = to + write_header(to, header->opcode, header->length, 0);
    uint8_t *source = from + header->size;
    size_t length = (size_t)header->length;
    if (header->opcode == OPCODE_BINARY) {
        sum(&sums->binary, length);
        unmask(target, source, length, header->key);
        return 1;
    }
    uint32_t utf8 = UTF8_ACCEPT;
    size_t done = unmask_text(target, source, length, header->key, &utf8);
    if (utf8 == UTF8_ACCEPT) {
        sum(&sums->text, length);
        return 1;
    }
    memmove(source, target, done);
    unmask(source, source, done, header->key);
    write_client_header(from, header->opcode, header->length, header->key);
    return 0;
}

echod_echoed echod_codec_echo(uint8_t *octets, size_t len, uint64_t max_message_size, echod_sums *sums)
{
    echod_echoed echoed = {0};
    verdict found = ORDINARY;
    while (echoed.consumed < len) {
        uint8_t *from = octets + echoed.consumed;
        size_t left = len - echoed.consumed;
        frame_header header;
        found = read_header(from, left, max_message_size, &header);
        if (found.stop != ECHOD_STOP_BOUNDARY)
            break;
        if (left - header.size < header.length) {
            found = need_more(header.size + header.length);
            break;
        }
        if (!echo_frame(octets + echoed.produced, from, &header, sums)) {
            found = NOT_ORDINARY;
            break;
        }
        echoed.messages++;
        echoed.octets += header.length;
        size_t size = header.size + (size_t)header.length;
        echoed.consumed += size;
        echoed.produced += size - KEY_SIZE;
    }
    echoed.stop = found.stop;
    echoed.need = found.need;
    return echoed;
}

size_t echod_large_begin(echod_large *large, const uint8_t *octets, size_t len, uint64_t max_message_size)
{
    frame_header header;
    if (!len || read_header(octets, len, max_message_size, &header).stop != ECHOD_STOP_BOUNDARY)
        return 0;
    *large = (echod_large){.length = header.length, .key = header.key, .utf8 = UTF8_ACCEPT, .opcode = header.opcode};
    return header.size;
}

size_t echod_large_server_header(const echod_large *large, uint8_t *header)
{
    return write_header(header, large->opcode, large->length, 0);
}

size_t echod_large_client_header(const echod_large *large, uint8_t *header)
{
    return write_client_header(header, large->opcode, large->length, large->key);
}

echod_large_state echod_large_feed(echod_large *large, uint8_t *target, const uint8_t *source, size_t len)
{
    uint64_t missing = large->length - large->done;
    size_t taken = len < missing ? len : (size_t)missing;
    uint32_t key = key_at(large->key, large->done);
    if (large->opcode == OPCODE_TEXT)
        taken = unmask_text(target, source, taken, key, &large->utf8);
    else
        unmask(target, source, taken, key);
    large->done += taken;
    if (large->utf8 == UTF8_REJECT)
        return ECHOD_LARGE_INVALID;
    if (large->done < large->length)
        return ECHOD_LARGE_OPEN;
    return large->utf8 == UTF8_ACCEPT ? ECHOD_LARGE_COMPLETE : ECHOD_LARGE_INVALID;
}

void echod_large_sum(const echod_large *large, echod_sums *sums)
{
    sum(large->opcode == OPCODE_TEXT ? &sums->text : &sums->binary, large->length);
}

void echod_large_restore(echod_large *large, uint8_t *payload)
{
    unmask(payload, payload, (size_t)large->done, large->key);
    large->done = 0;
    large->utf8 = UTF8_ACCEPT;
}

uint64_t echod_unmask(uint8_t *target, const uint8_t *source, size_t len, uint32_t key)
{
    return unmask(target, source, len, key) & HIGH_BITS;
}

uint32_t echod_key_at(uint32_t key, uint64_t offset)
{
    return key_at(key, offset);
}

uint32_t echod_utf8(uint32_t state, const uint8_t *octets, size_t len)
{
    return echod_kernel_chosen->utf8(state, octets, len);
}
