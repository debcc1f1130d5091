/*
 * What the codec offers: octets that a client sent, at a frame boundary, become the octets that echo them.
 *
 * Knows RFC 6455's frame header and RFC 3629's UTF-8. Must never know a socket, an allocator, Python, a clock, or anything of a
 * connection but the octets handed in. Everything here is a function of its arguments, but for the choice of kernel (see kernel.h).
 *
 * An *ordinary frame* is final, masked, of opcode text or binary, with no reserved bit, its length in the shortest form and within the
 * limit, and, if text, valid UTF-8. Whatever else a client may send is for Autobahn to judge: the codec leaves it as it was.
 *
 * What stands between the two cffi lines is also the declaration that Python sees (build.py reads it from here).
 */
#ifndef ECHOD_CODEC_H
#define ECHOD_CODEC_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* Why the codec stopped. */
typedef enum {
    ECHOD_STOP_BOUNDARY,     /* nothing is left: the last octet ended a frame */
    ECHOD_STOP_NEED_MORE,    /* the rest begins an ordinary frame, and is not all of it */
    ECHOD_STOP_TOO_LARGE,    /* the rest begins a frame that would be ordinary, were it not above the limit */
    ECHOD_STOP_NOT_ORDINARY, /* the rest is for Autobahn */
} echod_stop;

typedef struct {
    size_t consumed;          /* octets of client frames taken, from the front of the buffer; all behind them is as it was */
    size_t produced;          /* octets of server frames, at the front of the buffer; never more than consumed */
    uint64_t messages;        /* echoed, */
    uint64_t octets;          /* and the octets of their payloads */
    uint64_t need;  /* NEED_MORE, TOO_LARGE: octets, counted from consumed, without which there is no more to say: the whole frame once
                       its length is known, else as much of its header as tells the length. Otherwise 0. */
    echod_stop stop;
} echod_echoed;

/* What was echoed in all, for metrics: the caller's to keep, and it only grows. */
typedef struct {
    uint64_t sizes[64]; /* messages by payload: [n] of more than 2^(n-1) octets and at most 2^n, [0] of one, [63] of none */
    uint64_t octets;    /* of their payloads */
} echod_sum;

typedef struct {
    echod_sum text;
    echod_sum binary;
} echod_sums;

/* Echo every complete ordinary frame in octets[0, len), in place, and add it to the sums. A text frame that proves invalid is put back
   as it was. */
echod_echoed echod_codec_echo(uint8_t *octets, size_t len, uint64_t max_message_size, echod_sums *sums);

/* One ordinary frame that is too large to wait for in a read buffer: its payload is unmasked and validated piece by piece. */
typedef struct {
    uint64_t length; /* payload octets in all */
    uint64_t done;   /* of these, the ones fed so far */
    uint32_t key;    /* the masking key, as it lies in memory */
    uint32_t utf8;   /* the validator's state (utf8.h) */
    uint8_t opcode;  /* 1 text, 2 binary */
} echod_large;

typedef enum {
    ECHOD_LARGE_OPEN,     /* valid so far, and there is more to come */
    ECHOD_LARGE_COMPLETE, /* all there, and valid */
    ECHOD_LARGE_INVALID,  /* the text is not UTF-8: echod_large_restore, then hand it on */
} echod_large_state;

/* Octets of room in front of the payload of one that is collected: for either header. */
#define ECHOD_LARGE_ROOM 16

/* Read the header in octets[0, len). The answer is the size of the client's header (6, 8 or 14), or 0 when no header of an ordinary
   frame within the limit is complete there. */
size_t echod_large_begin(echod_large *large, const uint8_t *octets, size_t len, uint64_t max_message_size);

/* Write the header of the frame that echoes it (2, 4 or 10 octets), and the answer is its size. */
size_t echod_large_server_header(const echod_large *large, uint8_t *header);

/* Write the header that the client sent (6, 8 or 14 octets), and the answer is its size. */
size_t echod_large_client_header(const echod_large *large, uint8_t *header);

/* Take the payload's next octets, source[0, len), at most what is missing, and put them unmasked at target, which is the source itself,
   lies before it, or apart from it. Not to be called again after INVALID. */
echod_large_state echod_large_feed(echod_large *large, uint8_t *target, const uint8_t *source, size_t len);

/* Add it to the sums, once it is complete. */
void echod_large_sum(const echod_large *large, echod_sums *sums);

/* Mask the payload's first `done` octets again, so that it is what the client sent; the state then stands before the first of them. */
void echod_large_restore(echod_large *large, uint8_t *payload);

/* The parts, for whoever has octets that are not in an ordinary frame. */

/* Unmask source[0, len) to target (as in echod_large_feed) with the key as it lies in memory. Nonzero if an octet is 0x80 or above. */
uint64_t echod_unmask(uint8_t *target, const uint8_t *source, size_t len, uint32_t key);

/* The key for octets that begin `offset` octets into a payload. */
uint32_t echod_key_at(uint32_t key, uint64_t offset);

/* Walk the validator over octets[0, len). It begins in state ECHOD_UTF8_ACCEPT, is there again wherever text may end, and stays in
   ECHOD_UTF8_REJECT from the first octet on that no valid text has there. */
#define ECHOD_UTF8_REJECT 0
#define ECHOD_UTF8_ACCEPT 6
uint32_t echod_utf8(uint32_t state, const uint8_t *octets, size_t len);

/* The kernels compiled in, from the plainest to the best: name number `index`, or NULL behind the last. */
const char *echod_codec_isa_name(size_t index);

/* 1 if this processor can run the kernel. */
int echod_codec_isa_usable(const char *name);

/* Use this kernel from now on, or the best one with NULL. 0, or -1 if there is none of that name that this processor can run.
   For tests and measurements: not to be called while another thread is in the codec. */
int echod_codec_set_isa(const char *name);

/* The kernel in use. */
const char *echod_codec_isa(void);

/* cffi: end */

#endif
