/* Deflated messages. See deflate.h. */
#include "deflate.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "sizes.h"

/* From zlib.h: what it calls z_stream, and the constants that are used here. The structure has been like this since
   version 1.0, and zlib compares its size when a stream begins. */
typedef struct {
    const uint8_t *next_in;
    unsigned int avail_in;
    unsigned long total_in;
    uint8_t *next_out;
    unsigned int avail_out;
    unsigned long total_out;
    const char *msg;
    void *state;
    void *(*zalloc)(void *, unsigned int, unsigned int);
    void (*zfree)(void *, void *);
    void *opaque;
    int data_type;
    unsigned long adler;
    unsigned long reserved;
} z_stream;

enum { Z_NO_FLUSH = 0, Z_SYNC_FLUSH = 2, Z_BLOCK = 5 };
enum { Z_OK = 0, Z_BUF_ERROR = -5 };
enum { Z_DEFLATED = 8, Z_DEFAULT_STRATEGY = 0, MAX_WBITS = 15 };

_Static_assert(1 << MAX_WBITS == WINDOW_SIZE, "the inflater's window is the largest");

/* The data_type between two blocks, neither of which is the last one. To it is added how many bits of the byte before
   next_in the stream has not used: fewer than eight. */
enum { BETWEEN_BLOCKS = 128, UNUSED_BITS = 7 };

/* The bits of a block's header in front of its content. They are zeros for a stored block that is not the last one. */
enum { HEADER_BITS = 3 };

struct echod_deflate {
    echod_zlib zlib;
    echod_deflate_settings settings;
    z_stream inflater;
    z_stream deflaters[MAX_WBITS + 1]; /* by the bits of their window, made when needed; without a state: not made */
    /* The content of a message, piece by piece, behind the bytes before it. */
    uint8_t inflated[WINDOW_SIZE + INFLATE_SIZE];
    /* Deflated anew. With the least memory, bytes that can't be compressed grow by 4 %. */
    uint8_t deflated[ANSWER_ROOM + LARGEST_ANEW + LARGEST_ANEW / 4];
};

/* What the sender of a message leaves out of the empty block at its end (RFC 7692 section 7.2.1). */
enum { TAIL_SIZE = 4 };
static const uint8_t TAIL[TAIL_SIZE] = {0x00, 0x00, 0xFF, 0xFF};

/* The streams. */

echod_deflate *echod_deflate_new(const echod_zlib *zlib, const echod_deflate_settings *settings)
{
    /* Only the fields that need it are cleared: pages that nothing touches take no memory. */
    echod_deflate *it = malloc(sizeof *it);
    if (!it)
        return NULL;
    memset(it, 0, offsetof(echod_deflate, inflated));
    it->zlib = *zlib;
    it->settings = *settings;
    /* Without a header. The largest window accepts every message that a smaller one accepts. */
    if (zlib->inflateInit2_(&it->inflater, -MAX_WBITS, zlib->zlibVersion(), (int)sizeof(z_stream)) == Z_OK)
        return it;
    free(it);
    return NULL;
}

void echod_deflate_free(echod_deflate *it)
{
    it->zlib.inflateEnd(&it->inflater);
    for (int bits = 0; bits <= MAX_WBITS; bits++)
        if (it->deflaters[bits].state)
            it->zlib.deflateEnd(&it->deflaters[bits]);
    free(it);
}

/* Make the deflater for a window of so many bits, if there is none. False: zlib can't. */
static bool make_deflater(echod_deflate *it, int bits)
{
    z_stream *deflater = &it->deflaters[bits];
    if (deflater->state)
        return true;
    return it->zlib.deflateInit2_(deflater, it->settings.level, Z_DEFLATED, -bits, it->settings.mem_level,
                                  Z_DEFAULT_STRATEGY, it->zlib.zlibVersion(), (int)sizeof(z_stream)) == Z_OK;
}

/* The window. */

/* The most bytes that are kept for it. They move to the front when a quarter more than the window has come, not for
   each message. */
static size_t most_room(const echod_window *window)
{
    return window->terms.window_size + window->terms.window_size / 4;
}

/* Move on by the end of a message, which is no longer than the window. False: there is no memory, and the window is
   unchanged. */
static bool push(echod_window *window, const uint8_t *octets, size_t size)
{
    assert(size <= window->terms.window_size);
    size_t kept = window->size, most = most_room(window);
    if (kept + size > most && kept > window->terms.window_size - size)
        kept = window->terms.window_size - size;
    if (kept + size > window->room) {
        size_t room = 2 * (kept + size) < most ? 2 * (kept + size) : most;
        uint8_t *larger = realloc(window->octets, room);
        if (!larger)
            return false;
        window->octets = larger;
        window->room = room;
    }
    if (kept < window->size)
        memmove(window->octets, window->octets + window->size - kept, kept);
    if (size)
        memcpy(window->octets + kept, octets, size);
    window->size = kept + size;
    assert(window->size <= window->room);
    return true;
}

size_t echod_window_octets(const echod_window *window, const uint8_t **octets)
{
    size_t size = window->size < window->terms.window_size ? window->size : window->terms.window_size;
    *octets = size ? window->octets + window->size - size : NULL;
    return size;
}

bool echod_window_begin(echod_window *window, echod_deflate *it, const echod_terms *terms, const uint8_t *octets,
                        size_t size)
{
    *window = (echod_window){.terms = *terms};
    if (terms->window_size > WINDOW_SIZE || terms->window_bits < 0 || terms->window_bits > MAX_WBITS)
        return false;
    if (terms->window_bits && !make_deflater(it, terms->window_bits))
        return false;
    size_t kept = size < terms->window_size ? size : terms->window_size;
    return !kept || push(window, octets + size - kept, kept);
}

/* Messages. */

size_t echod_deflate_largest(const echod_terms *terms)
{
    return terms->window_bits ? LARGEST_ANEW : LARGEST_MIRRORED;
}

/* A message on its way through the streams, a piece at a time. */
typedef struct {
    echod_deflate *it;
    echod_window *window;
    z_stream *deflater; /* NULL: the answer is the bytes that came */
    bool is_text;
    uint32_t utf8;
    unsigned int blocks;
    uint64_t max_size;
    size_t size; /* bytes of all pieces so far */
    uint8_t *piece;
    size_t piece_size;
} passage;

typedef enum {
    PIECE_MORE, /* the message goes on behind it */
    PIECE_LAST, /* the message ends with it, as it should */
    PIECE_ODD,  /* Autobahn has to judge the message */
} piece_state;

/* Make the streams ready for a message. False: zlib can't. */
static bool begin_streams(passage *at, const uint8_t *deflated, size_t len)
{
    echod_deflate *it = at->it;
    const uint8_t *octets;
    size_t size = echod_window_octets(at->window, &octets);
    if (it->zlib.inflateReset(&it->inflater) != Z_OK)
        return false;
    if (size && it->zlib.inflateSetDictionary(&it->inflater, octets, (unsigned int)size) != Z_OK)
        return false;
    it->inflater.next_in = deflated;
    it->inflater.avail_in = (unsigned int)len;
    if (!at->deflater)
        return true;
    at->deflater->next_out = it->deflated + ANSWER_ROOM;
    at->deflater->avail_out = (unsigned int)(sizeof it->deflated - ANSWER_ROOM);
    return it->zlib.deflateReset(at->deflater) == Z_OK;
}

/* Whether nothing is left but the beginning of an empty stored block: its header and the rest of that byte. What the
   sender left out completes the block. */
static bool is_before_tail(const z_stream *inflater)
{
    if ((inflater->data_type & ~UNUSED_BITS) != BETWEEN_BLOCKS)
        return false;
    unsigned int unused = (unsigned int)inflater->data_type & UNUSED_BITS;
    unsigned int bits = unused ? inflater->next_in[-1] >> (8 - unused) : 0;
    if (inflater->avail_in != (unused < HEADER_BITS))
        return false;
    if (inflater->avail_in)
        bits |= (unsigned int)inflater->next_in[0] << unused;
    return !(bits & ((1 << HEADER_BITS) - 1));
}

/* Run the inflater until its input or its room is used up, or only an empty block is left, as where compressors end a
   message. False: the stream is not in order, or has too many blocks. */
static bool run_inflater(passage *at)
{
    z_stream *inflater = &at->it->inflater;
    do {
        int said = at->it->zlib.inflate(inflater, Z_BLOCK);
        /* Z_BUF_ERROR: there was no more. Z_STREAM_END is a last block, behind which there may be others. */
        if (said != Z_OK && said != Z_BUF_ERROR)
            return false;
        if (++at->blocks > MOST_BLOCKS)
            return false;
        /* Z_BLOCK makes it stop behind each block. */
    } while (inflater->avail_in && inflater->avail_out && !is_before_tail(inflater));
    return true;
}

/* Whether the message ends as its compressor has to end it: the bytes that were left out complete a block, and say
   nothing themselves, as they would where a block was cut. Ask once, because the stream may go on with these bytes. */
static bool ends_with_tail(echod_deflate *it)
{
    if (is_before_tail(&it->inflater))
        return true;
    uint8_t octet;
    it->inflater.next_in = TAIL;
    it->inflater.avail_in = TAIL_SIZE;
    it->inflater.next_out = &octet;
    it->inflater.avail_out = sizeof octet;
    return it->zlib.inflate(&it->inflater, Z_SYNC_FLUSH) == Z_OK && !it->inflater.avail_in &&
           it->inflater.avail_out && it->inflater.data_type == BETWEEN_BLOCKS;
}

/* Inflate the next piece, and check its size and its text. */
static piece_state inflate_piece(passage *at)
{
    z_stream *inflater = &at->it->inflater;
    uint64_t left = at->max_size - at->size;
    size_t room = left < INFLATE_SIZE ? (size_t)left + 1 : INFLATE_SIZE; /* one byte more shows that it is too long */
    inflater->next_out = at->piece;
    inflater->avail_out = (unsigned int)room;
    if (!run_inflater(at))
        return PIECE_ODD;
    bool is_last = inflater->avail_out != 0;
    at->piece_size = room - inflater->avail_out;
    at->size += at->piece_size;
    if (at->piece_size > left)
        return PIECE_ODD;
    if (at->is_text && (at->utf8 = echod_utf8(at->utf8, at->piece, at->piece_size)) == ECHOD_UTF8_REJECT)
        return PIECE_ODD;
    if (!is_last)
        return PIECE_MORE;
    return at->utf8 == ECHOD_UTF8_ACCEPT && ends_with_tail(at->it) ? PIECE_LAST : PIECE_ODD;
}

static bool is_short(const passage *at)
{
    return at->size < at->it->settings.min_deflated;
}

/* Deflate the piece behind those before it; the last one ends the answer. False: there is no room for the answer, or it
   would be a plain one in several pieces. */
static bool deflate_piece(passage *at, bool is_last)
{
    if (is_short(at))
        return is_last;
    z_stream *deflater = at->deflater;
    deflater->next_in = at->piece;
    deflater->avail_in = (unsigned int)at->piece_size;
    int said = at->it->zlib.deflate(deflater, is_last ? Z_SYNC_FLUSH : Z_NO_FLUSH);
    return (said == Z_OK || said == Z_BUF_ERROR) && !deflater->avail_in && deflater->avail_out;
}

/* Move the bytes before the next piece to the place in front of it, from which the window can take them. */
static void move_on(passage *at)
{
    memcpy(at->it->inflated, at->it->inflated + at->piece_size, WINDOW_SIZE);
}

/* Say how a message is answered, after its last piece was taken. */
static echod_inflated conclude(const passage *at)
{
    if (!at->deflater)
        return (echod_inflated){.size = at->size};
    if (is_short(at)) {
        assert(at->size == at->piece_size);
        return (echod_inflated){.size = at->size, .answer = at->piece, .answer_size = at->size, .is_plain = true};
    }
    assert(at->deflater->total_out >= TAIL_SIZE);
    size_t size = (size_t)at->deflater->total_out - TAIL_SIZE;
    return (echod_inflated){.size = at->size, .answer = at->it->deflated + ANSWER_ROOM, .answer_size = size};
}

/* Move the window on by the message. False: there is no memory, and the window is unchanged. */
static bool push_message(const passage *at)
{
    size_t most = at->window->terms.window_size, seen = at->size < most ? at->size : most;
    return push(at->window, at->piece + at->piece_size - seen, seen);
}

bool echod_deflate_take(echod_deflate *it, echod_window *window, const uint8_t *octets, size_t len, bool is_text,
                        uint64_t max_size, echod_inflated *said)
{
    int bits = window->terms.window_bits;
    passage at = {
        .it = it,
        .window = window,
        .deflater = bits ? &it->deflaters[bits] : NULL,
        .is_text = is_text,
        .utf8 = ECHOD_UTF8_ACCEPT,
        .max_size = max_size,
        .piece = it->inflated + WINDOW_SIZE,
    };
    if (!begin_streams(&at, octets, len))
        return false;
    piece_state state;
    while ((state = inflate_piece(&at)) != PIECE_ODD) {
        if (at.deflater && !deflate_piece(&at, state == PIECE_LAST))
            return false;
        if (state == PIECE_LAST) {
            *said = conclude(&at);
            return push_message(&at);
        }
        move_on(&at);
    }
    return false;
}
