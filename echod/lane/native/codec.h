/*
 * The codec: it turns bytes that a client sent, from a frame boundary on, into the bytes that echo them.
 *
 * Knows RFC 6455's frame header and RFC 3629's UTF-8. Must never know a socket, an allocator, Python, a clock, or
 * anything of a connection except the bytes that it is given. Everything here is a function of its arguments, apart
 * from the choice of a kernel (see kernel.h).
 *
 * An *ordinary frame* is final and masked, its opcode is text or binary, no reserved bit is set, its length has the
 * shortest form and is within the limit, and a text is valid UTF-8. Autobahn judges anything else: the codec leaves it
 * unchanged.
 *
 * Python sees the declarations between the two cffi lines: build.py reads them from here.
 */
#ifndef ECHOD_CODEC_H
#define ECHOD_CODEC_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* Why the codec stopped. */
typedef enum {
    ECHOD_STOP_BOUNDARY,     /* nothing is left: the last byte ended a frame */
    ECHOD_STOP_NEED_MORE,    /* the rest is the beginning of an ordinary frame */
    ECHOD_STOP_TOO_LARGE,    /* the rest begins a frame that is above the limit, and ordinary otherwise */
    ECHOD_STOP_NOT_ORDINARY, /* Autobahn has to judge the rest */
} echod_stop;

typedef struct {
    size_t consumed;   /* bytes of client frames taken from the front of the buffer; those behind are unchanged */
    size_t produced;   /* bytes of server frames at the front of the buffer; never more than consumed */
    uint64_t messages; /* that were echoed */
    uint64_t octets;   /* bytes of their payloads */
    /* NEED_MORE, TOO_LARGE: how many bytes from `consumed` on are needed before there is more to say. If the length of
       the frame is known, the whole frame; otherwise as much of its header as tells the length. In other cases 0. */
    uint64_t need;
    echod_stop stop;
} echod_echoed;

/* All that was echoed, for metrics. The caller keeps these sums, which only grow. */
typedef struct {
    uint64_t sizes[64]; /* messages by payload: [n] more than 2^(n-1) bytes and at most 2^n, [0] one, [63] none */
    uint64_t octets;    /* bytes of their payloads */
} echod_sum;

typedef struct {
    echod_sum text;
    echod_sum binary;
} echod_sums;

/* Echo every complete ordinary frame in octets[0, len), in place, and add it to the sums. A text frame that proves to
   be invalid is restored. */
echod_echoed echod_codec_echo(uint8_t *octets, size_t len, uint64_t max_message_size, echod_sums *sums);

/* One ordinary frame that is too large to wait for in a read buffer. Its payload is unmasked and checked piece by
   piece. */
typedef struct {
    uint64_t length; /* bytes of the payload */
    uint64_t done;   /* bytes of it that were fed so far */
    uint32_t key;    /* the masking key, in memory order */
    uint32_t utf8;   /* the validator's state (utf8.h) */
    uint8_t opcode;  /* 1 text, 2 binary */
} echod_large;

typedef enum {
    ECHOD_LARGE_OPEN,     /* valid so far, and more has to come */
    ECHOD_LARGE_COMPLETE, /* complete and valid */
    ECHOD_LARGE_INVALID,  /* the text is not UTF-8: call echod_large_restore, and give the frame to Autobahn */
} echod_large_state;

/* Bytes of room in front of a collected payload: the header of either side fits. */
#define ECHOD_LARGE_ROOM 16

/* Read the header in octets[0, len). Returns the size of the client's header (6, 8 or 14), or 0 if there is no complete
   header of an ordinary frame within the limit. */
size_t echod_large_begin(echod_large *large, const uint8_t *octets, size_t len, uint64_t max_message_size);

/* Write the header of the frame that echoes it. Returns its size (2, 4 or 10). */
size_t echod_large_server_header(const echod_large *large, uint8_t *header);

/* Write the header that the client sent. Returns its size (6, 8 or 14). */
size_t echod_large_client_header(const echod_large *large, uint8_t *header);

/* Take the next bytes of the payload from source[0, len), but no more than are missing, and put them unmasked at
   target. The target is the source itself, or lies before it, or apart from it. Do not call it again after INVALID. */
echod_large_state echod_large_feed(echod_large *large, uint8_t *target, const uint8_t *source, size_t len);

/* Add a complete frame to the sums. */
void echod_large_sum(const echod_large *large, echod_sums *sums);

/* Mask the first `done` bytes of the payload again, as the client sent them, and set `done` to 0. */
void echod_large_restore(echod_large *large, uint8_t *payload);

/* The parts, for bytes that are not in an ordinary frame. */

/* Unmask source[0, len) to target (as in echod_large_feed) with the key in memory order. Nonzero if a byte is 0x80 or
   above. */
uint64_t echod_unmask(uint8_t *target, const uint8_t *source, size_t len, uint32_t key);

/* The key for bytes that begin `offset` bytes into a payload. */
uint32_t echod_key_at(uint32_t key, uint64_t offset);

/* Run the validator over octets[0, len), and return its next state. It begins in state ECHOD_UTF8_ACCEPT, and is in
   that state again wherever the text may end. A byte that can't continue valid text puts it in ECHOD_UTF8_REJECT, where
   it stays. */
#define ECHOD_UTF8_REJECT 0
#define ECHOD_UTF8_ACCEPT 6
uint32_t echod_utf8(uint32_t state, const uint8_t *octets, size_t len);

/* The name of kernel number `index`, from the plainest to the best, or NULL behind the last one. */
const char *echod_codec_isa_name(size_t index);

/* 1 if this processor can run the kernel. */
int echod_codec_isa_usable(const char *name);

/* Use this kernel from now on, or the best one if the name is NULL. 0, or -1 if this processor can't run it, or there
   is no such kernel. For tests and measurements: no other thread may be in the codec. */
int echod_codec_set_isa(const char *name);

/* The name of the kernel in use. */
const char *echod_codec_isa(void);

/* cffi: end */

#endif
