/* permessage-deflate for the load generator. See deflate.h. */
#include "deflate.h"

#include "fail.h"

#ifndef WITH_DEFLATE

size_t deflate_message(const uint8_t *plain, size_t plain_len, bool fresh, uint8_t **packed)
{
    (void)plain, (void)plain_len, (void)fresh, (void)packed;
    fail("built without WITH_DEFLATE");
}

bool deflate_is_message(const uint8_t *packed, size_t packed_len, const uint8_t *history, size_t history_len,
                        const uint8_t *plain, size_t plain_len)
{
    (void)packed, (void)packed_len, (void)history, (void)history_len, (void)plain, (void)plain_len;
    fail("built without WITH_DEFLATE");
}

#else

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* RFC 7692 section 7.2.1: removed by the sender, added by the receiver */
static const uint8_t TAIL[] = {0x00, 0x00, 0xff, 0xff};

size_t deflate_message(const uint8_t *plain, size_t plain_len, bool fresh, uint8_t **packed)
{
    static z_stream stream;
    static bool ready;
    if (!ready) {
        if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
            fail("zlib: deflateInit2");
        }
        ready = true;
    } else if (fresh) {
        deflateReset(&stream);
    }
    size_t room = deflateBound(&stream, plain_len) + 64;
    *packed = malloc(room);
    stream.next_in = (Bytef *)plain;
    stream.avail_in = (uInt)plain_len;
    stream.next_out = *packed;
    stream.avail_out = (uInt)room;
    if (deflate(&stream, Z_SYNC_FLUSH) != Z_OK || stream.avail_out == 0) {
        fail("zlib: deflate");
    }
    return room - stream.avail_out - sizeof TAIL;
}

static int inflate_some(z_stream *stream, const uint8_t *octets, size_t len)
{
    stream->next_in = (Bytef *)octets;
    stream->avail_in = (uInt)len;
    return inflate(stream, Z_SYNC_FLUSH);
}

bool deflate_is_message(const uint8_t *packed, size_t packed_len, const uint8_t *history, size_t history_len,
                        const uint8_t *plain, size_t plain_len)
{
    static z_stream stream;
    static uint8_t *scratch;
    static size_t room;
    if (room < plain_len + 1) {
        if (room == 0 && inflateInit2(&stream, -MAX_WBITS) != Z_OK) {
            fail("zlib: inflateInit2");
        }
        room = plain_len + 1; /* one more than needed, so that an answer that is too long shows */
        scratch = realloc(scratch, room);
    }
    inflateReset(&stream);
    if (history_len > 0) {
        inflateSetDictionary(&stream, history, (uInt)history_len);
    }
    stream.next_out = scratch;
    stream.avail_out = (uInt)(plain_len + 1);
    int result = inflate_some(&stream, packed, packed_len);
    if (result == Z_OK && stream.avail_in == 0) {
        result = inflate_some(&stream, TAIL, sizeof TAIL);
    }
    if ((result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) || stream.avail_out != 1) {
        return false;
    }
    return memcmp(scratch, plain, plain_len) == 0;
}

#endif
