/* Deflated messages. See deflate.h. */
#include "deflate.h"

#include <stdlib.h>
#include <string.h>

#include "codec.h"

enum {
    WINDOW = 32 * 1024, /* the largest (RFC 1951 section 2) */
    PIECE = 64 * 1024,  /* octets inflated at a time: what is made of them finds them in the second-level cache */
    /* A message of so many octets at most, whatever they are. Measured: to inflate 1 MiB takes 0.6 to 4 ms, to inflate and deflate 64 KiB
       0.4 to 3 ms at level 1, and up to 8 at level 9. Larger ones are Autobahn's, where a message is inflated in turns. */
    LARGEST_MIRRORED = 1024 * 1024,
    LARGEST_ANEW = 64 * 1024,
    /* Octets do not tell how long they take: of 35 octets is a block that says nothing, and it has tables to be built for 2.5 us. So of a
       message whose deflated octets are more than SMALL, which take 0.8 ms at most, the blocks are counted, too. Compressors make one of
       some thousands of octets. */
    SMALL = 8 * 1024,
    MOST_BLOCKS = 1000,
    ANSWER_ROOM = 16, /* for whoever writes a header in front of an answer */
};

/* Of zlib.h: what it calls z_stream, and the constants that are used here. It has been like this since version 1.0, and its size is
   compared when a stream is begun. */
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

enum { Z_NO_FLUSH = 0, Z_SYNC_FLUSH = 2, Z_BLOCK = 5, Z_OK = 0, Z_BUF_ERROR = -5, Z_DEFLATED = 8, Z_DEFAULT_STRATEGY = 0, MAX_WBITS = 15 };

/* data_type between two blocks, neither of which is the last one, at the begin of an octet. */
enum { BETWEEN_BLOCKS = 128 };

struct echod_deflate {
    echod_zlib zlib;
    echod_deflate_settings settings;
    z_stream inflater;
    z_stream deflaters[MAX_WBITS + 1]; /* by the size of their window, once one is asked for; without a state: none */
    /* What a message says, piece by piece behind the octets before it. */
    uint8_t inflated[WINDOW + PIECE];
    /* Deflated anew. Incompressible octets become more by 4 % with the least memory. */
    uint8_t deflated[ANSWER_ROOM + LARGEST_ANEW + LARGEST_ANEW / 4];
};

/* What a message's sender leaves out of the empty block at its end (RFC 7692 section 7.2.1). */
enum { TAIL_SIZE = 4 };
static const uint8_t TAIL[TAIL_SIZE] = {0x00, 0x00, 0xFF, 0xFF};

echod_deflate *echod_deflate_new(const echod_zlib *zlib, const echod_deflate_settings *settings)
{
    /* Not cleared but what has to be: what is not touched takes no memory. */
    echod_deflate *it = malloc(sizeof *it);
    if (it == NULL)
        return NULL;
    memset(it, 0, offsetof(echod_deflate, inflated));
    it->zlib = *zlib;
    it->settings = *settings;
    /* Without a header, and of the largest window: what a smaller one allows is right in it, too. */
    if (zlib->inflateInit2_(&it->inflater, -MAX_WBITS, zlib->zlibVersion(), (int)sizeof(z_stream)) == Z_OK)
        return it;
    free(it);
    return NULL;
}

void echod_deflate_free(echod_deflate *it)
{
    it->zlib.inflateEnd(&it->inflater);
    for (int bits = 0; bits <= MAX_WBITS; bits++)
        if (it->deflaters[bits].state != NULL)
            it->zlib.deflateEnd(&it->deflaters[bits]);
    free(it);
}

static bool has_deflater(echod_deflate *it, int bits)
{
    z_stream *deflater = &it->deflaters[bits];
    if (deflater->state != NULL)
        return true;
    return it->zlib.deflateInit2_(deflater, it->settings.level, Z_DEFLATED, -bits, it->settings.mem_level, Z_DEFAULT_STRATEGY,
                                  it->zlib.zlibVersion(), (int)sizeof(z_stream)) == Z_OK;
}

/* The window. */

/* Octets are moved to the front when a quarter more than the window has come: not for each message. */
static size_t most_room(const echod_window *window)
{
    return window->terms.window_size + window->terms.window_size / 4;
}

/* Move on by the last octets of a message, of which there are at most as many as the window has. False: there is no memory, and the window
   is as it was. */
static bool push(echod_window *window, const uint8_t *octets, size_t size)
{
    size_t kept = window->size, most = most_room(window);
    if (kept + size > most && kept > window->terms.window_size - size)
        kept = window->terms.window_size - size;
    if (kept + size > window->room) {
        size_t room = 2 * (kept + size) < most ? 2 * (kept + size) : most;
        uint8_t *larger = realloc(window->octets, room);
        if (larger == NULL)
            return false;
        window->octets = larger;
        window->room = room;
    }
    if (kept < window->size)
        memmove(window->octets, window->octets + window->size - kept, kept);
    if (size != 0)
        memcpy(window->octets + kept, octets, size);
    window->size = kept + size;
    return true;
}

size_t echod_window_octets(const echod_window *window, const uint8_t **octets)
{
    size_t size = window->size < window->terms.window_size ? window->size : window->terms.window_size;
    *octets = size != 0 ? window->octets + window->size - size : NULL;
    return size;
}

bool echod_window_begin(echod_window *window, echod_deflate *it, const echod_terms *terms, const uint8_t *octets, size_t size)
{
    *window = (echod_window){.terms = *terms};
    if (terms->window_size > WINDOW || terms->window_bits < 0 || terms->window_bits > MAX_WBITS)
        return false;
    if (terms->window_bits != 0 && !has_deflater(it, terms->window_bits))
        return false;
    size_t kept = size < terms->window_size ? size : terms->window_size;
    return kept == 0 || push(window, octets + size - kept, kept);
}

/* Messages. */

size_t echod_deflate_largest(const echod_terms *terms)
{
    return terms->window_bits != 0 ? LARGEST_ANEW : LARGEST_MIRRORED;
}

/* Deflate octets behind others of the same message; `is_last`: and end it. False: there is no room for what that makes. */
static bool deflate_piece(echod_deflate *it, z_stream *deflater, uint8_t *octets, size_t size, bool is_last)
{
    deflater->next_in = octets;
    deflater->avail_in = (unsigned int)size;
    int said = it->zlib.deflate(deflater, is_last ? Z_SYNC_FLUSH : Z_NO_FLUSH);
    return (said == Z_OK || said == Z_BUF_ERROR) && deflater->avail_in == 0 && deflater->avail_out != 0;
}

static bool begin_streams(echod_deflate *it, const echod_window *window, z_stream *deflater)
{
    const uint8_t *octets;
    size_t size = echod_window_octets(window, &octets);
    if (it->zlib.inflateReset(&it->inflater) != Z_OK)
        return false;
    if (size != 0 && it->zlib.inflateSetDictionary(&it->inflater, octets, (unsigned int)size) != Z_OK)
        return false;
    if (deflater == NULL)
        return true;
    deflater->next_out = it->deflated + ANSWER_ROOM;
    deflater->avail_out = (unsigned int)(sizeof it->deflated - ANSWER_ROOM);
    return it->zlib.deflateReset(deflater) == Z_OK;
}

/* Inflate the next piece, of at most `room` octets; false if the stream is not in order, or `blocks`, if they are counted, are too many. */
static bool inflate_piece(echod_deflate *it, size_t room, size_t *size, unsigned int *blocks)
{
    z_stream *inflater = &it->inflater;
    inflater->next_out = it->inflated + WINDOW;
    inflater->avail_out = (unsigned int)room;
    do {
        int said = it->zlib.inflate(inflater, blocks ? Z_BLOCK : Z_SYNC_FLUSH);
        /* Z_BUF_ERROR: there was no more. Z_STREAM_END: a last block, behind which there may be others. */
        if (said != Z_OK && said != Z_BUF_ERROR)
            return false;
        if (blocks && ++*blocks > MOST_BLOCKS)
            return false;
    } while (inflater->avail_in != 0 && inflater->avail_out != 0); /* Z_BLOCK: it stops behind each */
    *size = room - inflater->avail_out;
    return true;
}

/* Whether a message, all of which was inflated, ends as its compressor is to end it: what was left out completes a block, and says
   nothing itself, as it would where a block was cut. Asked once, for the stream goes on with it. */
static bool is_ended(echod_deflate *it)
{
    uint8_t octet;
    it->inflater.next_in = TAIL;
    it->inflater.avail_in = TAIL_SIZE;
    it->inflater.next_out = &octet;
    it->inflater.avail_out = sizeof octet;
    return it->zlib.inflate(&it->inflater, Z_SYNC_FLUSH) == Z_OK && it->inflater.avail_in == 0 && it->inflater.avail_out != 0 &&
           it->inflater.data_type == BETWEEN_BLOCKS;
}

/* The answer to a message whose last piece, of `size` octets, is there. */
static void tell_answer(echod_deflate *it, const z_stream *deflater, size_t size, echod_inflated *said)
{
    said->is_plain = deflater != NULL && said->size < it->settings.min_deflated;
    said->answer = deflater == NULL ? NULL : said->is_plain ? it->inflated + WINDOW : it->deflated + ANSWER_ROOM;
    said->answer_size = said->is_plain ? size : deflater != NULL ? (size_t)deflater->total_out - TAIL_SIZE : 0;
}

bool echod_deflate_take(echod_deflate *it, echod_window *window, const uint8_t *octets, size_t len, bool is_text, uint64_t max_size,
                        echod_inflated *said)
{
    z_stream *deflater = window->terms.window_bits != 0 ? &it->deflaters[window->terms.window_bits] : NULL;
    if (!begin_streams(it, window, deflater))
        return false;
    it->inflater.next_in = octets;
    it->inflater.avail_in = (unsigned int)len;
    unsigned int blocks = 0;
    uint32_t utf8 = ECHOD_UTF8_ACCEPT;
    *said = (echod_inflated){0};
    for (;;) {
        uint64_t left = max_size - said->size; /* an octet more shows that it is too long */
        size_t size, room = left < PIECE ? (size_t)left + 1 : PIECE;
        uint8_t *piece = it->inflated + WINDOW;
        if (!inflate_piece(it, room, &size, len > SMALL ? &blocks : NULL) || size > left)
            return false;
        said->size += size;
        if (is_text && (utf8 = echod_utf8(utf8, piece, size)) == ECHOD_UTF8_REJECT)
            return false;
        bool is_last = it->inflater.avail_out != 0;
        if (is_last && (utf8 != ECHOD_UTF8_ACCEPT || !is_ended(it)))
            return false;
        bool is_short = said->size < it->settings.min_deflated;
        if (deflater != NULL && is_short && !is_last)
            return false; /* a plain answer in several pieces is for others to put together */
        if (deflater != NULL && !is_short && !deflate_piece(it, deflater, piece, size, is_last))
            return false;
        if (is_last) {
            size_t seen = said->size < window->terms.window_size ? said->size : window->terms.window_size;
            tell_answer(it, deflater, size, said);
            return push(window, piece + size - seen, seen);
        }
        memcpy(it->inflated, it->inflated + size, WINDOW);
    }
}
