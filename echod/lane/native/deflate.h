/*
 * Deflated messages (RFC 7692). They are inflated, to check their content, and deflated anew if the answer can't be the
 * bytes that came.
 *
 * Knows the few functions of zlib that are handed in, by their addresses in the library that the process has loaded.
 * None is linked, and zlib's header is not read. Must never know a frame, a socket, or what was negotiated apart from
 * the windows.
 *
 * No state of zlib is kept for a connection, only a *window*: the end of the content of the client's deflated messages.
 * One stream inflates the messages of all connections. The stream gets the window before each message, and the window
 * moves on when the message has proved good. So a message that is left to Autobahn changes nothing, and the owner needs
 * only the window to go on.
 */
#ifndef ECHOD_DEFLATE_H
#define ECHOD_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* Each is zlib's function of that name. A z_stream is void here. */
typedef struct {
    const char *(*zlibVersion)(void);
    int (*inflateInit2_)(void *stream, int window_bits, const char *version, int stream_size);
    int (*inflate)(void *stream, int flush);
    int (*inflateReset)(void *stream);
    int (*inflateSetDictionary)(void *stream, const uint8_t *octets, unsigned int size);
    int (*inflateEnd)(void *stream);
    int (*deflateInit2_)(void *stream, int level, int method, int window_bits, int mem_level, int strategy,
                         const char *version, int stream_size);
    int (*deflate)(void *stream, int flush);
    int (*deflateReset)(void *stream);
    int (*deflateEnd)(void *stream);
} echod_zlib;

/* How answers are deflated anew. */
typedef struct {
    int level;
    int mem_level;
    uint64_t min_deflated; /* bytes; a shorter message is answered plain */
} echod_deflate_settings;

/* What was agreed on for a connection. */
typedef struct {
    size_t window_size; /* bytes of the client's earlier messages that the next may refer to; 0: none */
    int window_bits;    /* of the compressor for answers that are deflated anew; 0: the answer is the bytes that came */
} echod_terms;

/* cffi: end */

typedef struct {
    echod_terms terms;
    uint8_t *octets; /* the window is the end of these, terms.window_size bytes at most */
    size_t size;
    size_t room;
} echod_window;

typedef struct echod_deflate echod_deflate;

/* A message that was inflated, and its answer. */
typedef struct {
    size_t size; /* bytes when inflated */
    /* The answer's payload, with room in front, good until the next message. NULL: the answer is the bytes that
       came. */
    uint8_t *answer;
    size_t answer_size;
    bool is_plain; /* the answer is not deflated */
} echod_inflated;

/* The streams that all connections share. NULL: there is no memory, or the library refuses this z_stream. */
echod_deflate *echod_deflate_new(const echod_zlib *zlib, const echod_deflate_settings *settings);

void echod_deflate_free(echod_deflate *it);

/* Begin with a copy of a window. False: the terms can't be met, for lack of memory or of a compressor. */
bool echod_window_begin(echod_window *window, echod_deflate *it, const echod_terms *terms, const uint8_t *octets,
                        size_t size);

/* The window: its size, and where it begins. */
size_t echod_window_octets(const echod_window *window, const uint8_t **octets);

/* The most bytes that a message on these terms may inflate to, so that a turn ends in time. */
size_t echod_deflate_largest(const echod_terms *terms);

/* Inflate a message, whose deflated bytes are octets[0, len). False: the message is left to Autobahn, and nothing has
   changed. The message is malformed, truncated, longer than max_size, a text that is not UTF-8, or not as compressors
   write it (it has a last block); or it has too many blocks for one turn; or there is no memory. */
bool echod_deflate_take(echod_deflate *it, echod_window *window, const uint8_t *octets, size_t len, bool is_text,
                        uint64_t max_size, echod_inflated *said);

#endif
