/*
 * Deflated messages, one after the other. The input is terms (1 byte), limit (1), and for each message: its kind (1:
 * whether it is text, and whether there is no memory for it), its size (2) and its deflated bytes. If the upper half of
 * the kind is all ones, the bytes are repeated, up to a MiB.
 *
 * The oracle is zlib as most programs use it: one stream goes on from message to message, and an earlier copy of the
 * stream takes its place after a message that was refused. The oracle and deflate.c must agree on which messages are
 * valid, and on their sizes. The window must be the last bytes of all content. An answer must inflate to the message.
 *
 * This file includes deflate.c, for its z_stream and to make its allocations fail. It is linked with zlib, whose header
 * need not be installed.
 */
#define _GNU_SOURCE
#include "oracle.h"

#include "cpu.h"

static int is_out_of_memory;
static int was_out_of_memory;

static void *deflate_realloc(void *octets, size_t size)
{
    was_out_of_memory |= is_out_of_memory;
    return is_out_of_memory ? NULL : realloc(octets, size);
}

#define realloc deflate_realloc
#include "deflate.c"
#undef realloc

extern const char *zlibVersion(void);
extern int inflateInit2_(void *, int, const char *, int), inflate(void *, int);
extern int inflateReset(void *), inflateEnd(void *);
extern int inflateSetDictionary(void *, const uint8_t *, unsigned int), inflateCopy(void *, void *);
extern int deflateInit2_(void *, int, int, int, int, int, const char *, int);
extern int deflate(void *, int), deflateReset(void *), deflateEnd(void *);

enum { MOST = 4 << 20, REPEATED = 1 << 20 };

static uint8_t said_by_oracle[MOST];

static int goes_on(z_stream *stream, const void *octets, size_t len)
{
    stream->next_in = octets;
    stream->avail_in = (unsigned int)len;
    int said = inflate(stream, Z_SYNC_FLUSH);
    return (said == Z_OK || said == Z_BUF_ERROR) && stream->avail_in == 0;
}

/* Inflate the next message to *size bytes. Returns 0 if it is not a valid message. */
static int oracle_inflate(z_stream *stream, const uint8_t *octets, size_t len, size_t limit, size_t *size)
{
    stream->next_out = said_by_oracle;
    stream->avail_out = MOST;
    int is_right = goes_on(stream, octets, len);
    *size = MOST - stream->avail_out;
    /* The tail must add no content, as it would within a block. */
    is_right = is_right && goes_on(stream, "\x00\x00\xFF\xFF", 4) && *size == MOST - stream->avail_out;
    if (is_right) { /* zlib must read what comes next as a new block, which has to begin at the beginning of a byte */
        z_stream after;
        CHECK(inflateCopy(&after, stream) == Z_OK);
        after.next_in = (const uint8_t *)"\x01\x01\x00\xFE\xFF!";
        after.avail_in = 6;
        is_right = inflate(&after, Z_SYNC_FLUSH) == 1 && after.avail_in == 0 && MOST - after.avail_out == *size + 1;
        is_right = is_right && said_by_oracle[*size] == '!';
        inflateEnd(&after);
    }
    return is_right && *size <= limit;
}

/* Compare an answer with the message, by an inflater that begins anew. */
static void judge_answer(const echod_inflated *said, const uint8_t *payload)
{
    if (said->is_plain) {
        CHECK(said->answer_size == said->size && memcmp(said->answer, payload, said->size) == 0);
        return;
    }
    static uint8_t inflated[LARGEST_ANEW + 1];
    z_stream stream = {0};
    uint8_t *octets = malloc(said->answer_size + 4);
    CHECK(octets && inflateInit2_(&stream, -15, zlibVersion(), (int)sizeof stream) == Z_OK);
    memcpy(octets, said->answer, said->answer_size);
    memcpy(octets + said->answer_size, "\x00\x00\xFF\xFF", 4);
    stream.next_in = octets;
    stream.avail_in = (unsigned int)said->answer_size + 4;
    stream.next_out = inflated;
    stream.avail_out = sizeof inflated;
    CHECK(inflate(&stream, Z_SYNC_FLUSH) == Z_OK && stream.avail_in == 0);
    CHECK(sizeof inflated - stream.avail_out == said->size && memcmp(inflated, payload, said->size) == 0);
    inflateEnd(&stream);
    free(octets);
}

typedef struct {
    z_stream *stream; /* allocated by itself, because zlib stores its address */
    uint8_t *all; /* the content of all good messages */
    size_t size;
} history;

static z_stream *copy_stream(z_stream *stream)
{
    z_stream *copied = malloc(sizeof *copied);
    CHECK(copied && inflateCopy(copied, stream) == Z_OK);
    return copied;
}

static void drop_stream(z_stream *stream)
{
    inflateEnd(stream);
    free(stream);
}

static void judge_window(const echod_window *window, const history *it)
{
    const uint8_t *octets;
    size_t size = echod_window_octets(window, &octets), most = window->terms.window_size;
    CHECK(size == (it->size < most ? it->size : most));
    CHECK(size == 0 || memcmp(octets, it->all + it->size - size, size) == 0);
}

static void take(echod_deflate *deflate_, echod_window *window, history *it, int kind, const uint8_t *octets,
                 size_t len, uint64_t limit)
{
    int is_text = kind & 1;
    z_stream *before = copy_stream(it->stream);
    size_t size;
    int is_right = oracle_inflate(it->stream, octets, len, (size_t)limit, &size);
    is_right = is_right && (!is_text || oracle_text(said_by_oracle, size) == TEXT_ENDS);
    uint8_t *copied = exact(octets, len);
    echod_inflated said;
    is_out_of_memory = kind & 2;
    was_out_of_memory = 0;
    uint64_t began = cpu_ns();
    int is_taken = echod_deflate_take(deflate_, window, copied, len, is_text, limit, &said);
    CHECK(cpu_ns() - began < MOST_TIME);
    is_out_of_memory = 0;
    /* A long message that is right may have too many blocks: each takes ten bits at least. */
    CHECK(is_taken == (is_right && !was_out_of_memory) || (!is_taken && len >= MOST_BLOCKS * 10 / 8));
    is_right = is_taken;
    CHECK(memcmp(copied, octets, len) == 0);
    free(copied);
    if (!is_right || window->terms.window_size == 0) {
        drop_stream(it->stream);
        it->stream = before;
    } else {
        drop_stream(before);
    }
    if (!is_right)
        return;
    CHECK(said.size == size && (!said.answer) == (window->terms.window_bits == 0));
    if (said.answer)
        judge_answer(&said, said_by_oracle);
    it->all = realloc(it->all, it->size + size + 1);
    CHECK(it->all);
    memcpy(it->all + it->size, said_by_oracle, size);
    it->size += size;
}

static void take_repeated(echod_deflate *deflate_, echod_window *window, history *it, int is_text,
                          const uint8_t *octets, size_t len, uint64_t limit)
{
    static uint8_t repeated[REPEATED];
    size_t size = 0;
    for (; size + len <= REPEATED; size += len)
        memcpy(repeated + size, octets, len);
    take(deflate_, window, it, is_text, repeated, size, limit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t limits[] = {LARGEST_ANEW, 100, 65535, 65536, 65537, 0};
    if (size < 2)
        return 0;
    echod_zlib zlib = {zlibVersion, inflateInit2_, inflate, inflateReset, inflateSetDictionary, inflateEnd,
                       deflateInit2_, deflate, deflateReset, deflateEnd};
    echod_deflate_settings settings = {1, 4, 64};
    /* The oracle's window is 32 KiB, so a window here is 32 KiB or none: with a smaller one the oracle would accept
       references that reach too far back. */
    echod_terms terms = {data[0] & 1 ? 1 << 15 : 0, data[0] & 2 ? 9 + (data[0] >> 2) % 7 : 0};
    uint64_t limit = limits[data[1] % (sizeof limits / sizeof *limits)];
    echod_deflate *deflate_ = echod_deflate_new(&zlib, &settings);
    echod_window window;
    history it = {.stream = calloc(1, sizeof *it.stream)};
    CHECK(it.stream);
    CHECK(deflate_ && echod_window_begin(&window, deflate_, &terms, NULL, 0));
    CHECK(inflateInit2_(it.stream, -15, zlibVersion(), (int)sizeof *it.stream) == Z_OK);
    const uint8_t *at = data + 2, *end = data + size;
    while (end - at > 3) {
        size_t len = (size_t)at[1] << 8 | at[2];
        if (len > (size_t)(end - at - 3))
            len = (size_t)(end - at - 3);
        if (at[0] >> 4 == 0xF && len != 0)
            take_repeated(deflate_, &window, &it, at[0], at + 3, len, limit);
        else
            take(deflate_, &window, &it, at[0], at + 3, len, limit);
        judge_window(&window, &it);
        at += 3 + len;
    }
    drop_stream(it.stream);
    free(it.all);
    free(window.octets);
    echod_deflate_free(deflate_);
    return 0;
}
