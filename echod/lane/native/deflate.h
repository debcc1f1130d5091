/*
 * Deflated messages (RFC 7692): inflated, to see what they say, and deflated anew where the answer can't be what came.
 *
 * Knows the few functions of zlib that are handed in, by their addresses in the library that the process has loaded: none is linked, and its
 * header is not read. Must never know a frame, a socket, or what was negotiated but for the windows.
 *
 * Nothing of zlib's is kept for a connection, only a *window*: the last octets that the client's deflated messages said. Each message is
 * inflated by one stream for all, which is given the window, and the window moves on when the message proved good. So a message that is
 * not for us leaves everything as it was, and who takes the connection back goes on with the window alone.
 */
#ifndef ECHOD_DEFLATE_H
#define ECHOD_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* Each is zlib's function of that name; a z_stream is void here. */
typedef struct {
    const char *(*zlibVersion)(void);
    int (*inflateInit2_)(void *stream, int window_bits, const char *version, int stream_size);
    int (*inflate)(void *stream, int flush);
    int (*inflateReset)(void *stream);
    int (*inflateSetDictionary)(void *stream, const uint8_t *octets, unsigned int size);
    int (*inflateEnd)(void *stream);
    int (*deflateInit2_)(void *stream, int level, int method, int window_bits, int mem_level, int strategy, const char *version,
                         int stream_size);
    int (*deflate)(void *stream, int flush);
    int (*deflateReset)(void *stream);
    int (*deflateEnd)(void *stream);
} echod_zlib;

/* How messages are deflated that are answered anew. */
typedef struct {
    int level;
    int mem_level;
    uint64_t min_deflated; /* octets; a shorter one is answered plain */
} echod_deflate_settings;

/* What was agreed on for a connection. */
typedef struct {
    size_t window_size; /* octets of what a client's messages said that the next may refer to; 0: each stands by itself */
    int window_bits;    /* of our compressor, for an answer that is deflated anew; 0: it is what came */
} echod_terms;

/* cffi: end */

typedef struct {
    echod_terms terms;
    uint8_t *octets; /* the window is the last ones of these, terms.window_size at most */
    size_t size;
    size_t room;
} echod_window;

typedef struct echod_deflate echod_deflate;

/* What a deflated message says, and how it is answered. */
typedef struct {
    size_t size;            /* octets when inflated */
    uint8_t *answer;        /* the answer's payload, behind some octets of room, good until the next message; NULL: what came */
    size_t answer_size;
    bool is_plain;          /* the answer is not deflated */
} echod_inflated;

/* The streams that all connections share. NULL: there is no memory, or the library is not what it says. */
echod_deflate *echod_deflate_new(const echod_zlib *zlib, const echod_deflate_settings *settings);

void echod_deflate_free(echod_deflate *it);

/* Begin with a copy of a window. False: there is no memory, or no compressor for these terms. */
bool echod_window_begin(echod_window *window, echod_deflate *it, const echod_terms *terms, const uint8_t *octets, size_t size);

/* The window: its size, and where it begins. */
size_t echod_window_octets(const echod_window *window, const uint8_t **octets);

/* Octets that a message on these terms may have when it is inflated, so that a turn ends in time. */
size_t echod_deflate_largest(const echod_terms *terms);

/* Inflate a message whose deflated octets are octets[0, len). False: it is malformed or not whole, longer than max_size, text that is not
   UTF-8, or not as compressors write them (with a last block); it has too many blocks to be inflated in one go; or there is no memory.
   Then nothing has happened. */
bool echod_deflate_take(echod_deflate *it, echod_window *window, const uint8_t *octets, size_t len, bool is_text, uint64_t max_size,
                        echod_inflated *said);

#endif
