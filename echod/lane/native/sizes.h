/*
 * Every size that the native code chooses or takes from a standard, in bytes and in one table, and how they depend on
 * each other.
 *
 * Knows numbers only. Must never know what is done with a buffer.
 */
#ifndef ECHOD_SIZES_H
#define ECHOD_SIZES_H

#include "codec.h"

enum {
    /* Sizes that standards give. */
    KEY_SIZE = 4,                             /* a masking key (RFC 6455 section 5.3) */
    SERVER_HEADER = 2 + 8,                    /* the largest header that a server sends (RFC 6455 section 5.2) */
    CLIENT_HEADER = SERVER_HEADER + KEY_SIZE, /* the largest header that a client sends */
    CONTROL_SIZE = 125,                       /* the largest payload of a control frame (RFC 6455 section 5.5) */
    RECORD_SIZE = 16 * 1024,                  /* the largest payload of a TLS record (RFC 8446 section 5.1) */
    RECORD_OVERHEAD = 5 + 256,                /* a record's header, and the most that sealing adds (section 5.2) */
    WINDOW_SIZE = 32 * 1024,                  /* the largest window of deflate (RFC 1951 section 2) */

    /* Many clients send 64 KiB at a time. A frame with a payload of this size takes one read and one send. */
    COMMON_FRAME = 64 * 1024,

    /* The codec. */
    CHECK_SIZE = 4 * 1024, /* unmasked before it is checked as UTF-8: the first-level cache holds it twice */

    /* Reading. */
    READ_SIZE = COMMON_FRAME + CLIENT_HEADER, /* one receive into the shared buffer */
    SEALED_SIZE = 80 * 1024,                  /* the same over TLS, in records */
    TIGHT_READ_SIZE = 4 * 1024,               /* one receive while memory is short */
    PIECE_SIZE = 256 * 1024,      /* one receive into a large message's buffer: the second-level cache holds it */
    MIN_PIECE_SIZE = 16 * 1024,   /* the least of that, when many sockets are ready */
    BATCH = 256,                  /* events asked of epoll at a time; a number, not bytes */
    BATCH_SIZE = 2 * 1024 * 1024, /* received, or sent, for all events of a batch: bounds how long the last one waits */

    /* Keeping. */
    KEEP_SIZE = 4 * 1024, /* a frame up to this size is kept as it came until it is whole: cheap to decode twice */
    SHARED_SIZE = KEEP_SIZE + SEALED_SIZE, /* the buffer that all leases share: what was kept, then one receive */
    GATHER_SIZE = 256,                     /* the least room for the payload of a gathered message */
    POOL_BUFFERS = 8,                      /* buffers in the pool; a number, not bytes */
    POOL_SIZE = 8 * 1024 * 1024,           /* all buffers in the pool */
    MIN_POOLED_SIZE = 128 * 1024,          /* the smallest buffer in the pool: malloc keeps smaller ones itself */

    /* The door. */
    ACCEPTS = 16,    /* connections that are accepted for one event; a number, not bytes */
    MOST_PINGS = 480, /* sent in one look; a number, not bytes */
    RECALL_COST = 16, /* pings that take as long as to make a connection of a guest */
    MOST_GONE = 256, /* guests that may go in a turn without being told of one by one; a number, not bytes */
    MOST_TOLD = 64,  /* connections that a turn leaves to the owner, which takes some 0.1 ms for each; a number, not bytes */
    MOST_EXPIRED = 1000, /* visitors that are reset in one go; a number, not bytes */
    MOST_WALKED = 10000, /* guests that are looked through in one go; a number, not bytes */

    /* Remembered verdicts. A connection refers to one, which may be forgotten: the sizes bound what it holds in this way. */
    MOST_VERDICTS = 256, /* a number, not bytes */
    BRIEF_SIZE = 1024,   /* a head in brief: a browser's takes some 500 bytes */
    ANSWER_SIZE = 512,   /* an answer with 101 */
    KEPT_SIZE = 256,     /* a kept value: six addresses of IPv6 */

    /* TLS. */
    PUT_SIZE = RECORD_SIZE,      /* put into a session at a time, because a memory BIO never shrinks */
    SEAL_SIZE = 4 * RECORD_SIZE, /* sealed at a time, for the same reason; but each piece is a system call */
    GROWN_SIZE = 4 * 1024,       /* a BIO that has held more than this is worth replacing */

    /* Deflate. The limits are measured: a turn of the event loop has to end in time. To inflate 1 MiB takes 0.6 to 4
       ms. To inflate and deflate 64 KiB takes 0.4 to 3 ms at level 1, and up to 8 ms at level 9. A larger message is
       Autobahn's, and is inflated in several turns. */
    LARGEST_MIRRORED = 1024 * 1024,  /* the largest message whose answer is the bytes that came */
    LARGEST_ANEW = 64 * 1024,        /* the largest message whose answer is deflated anew */
    INFLATE_SIZE = LARGEST_ANEW + 1, /* inflated at a time; the last byte shows that a message of LARGEST_ANEW ends */
    ANSWER_ROOM = 16,                /* room for a header in front of an answer */
    /* The size of a message does not bound its time: a block that says nothing takes 35 bytes and 2.5 us, because
       tables have to be built for it. So the blocks of a message are counted. Compressors make one block out of some
       thousands of bytes. */
    MOST_BLOCKS = 1000, /* a number, not bytes */
};

_Static_assert(ECHOD_LARGE_ROOM >= CLIENT_HEADER, "either header fits in front of a large frame's payload");
_Static_assert(CHECK_SIZE % KEY_SIZE == 0, "each piece begins with the same masking key");
_Static_assert(READ_SIZE >= COMMON_FRAME + CLIENT_HEADER, "a read takes a common frame with its header");
_Static_assert(SEALED_SIZE >= COMMON_FRAME + CLIENT_HEADER + (COMMON_FRAME / RECORD_SIZE + 1) * RECORD_OVERHEAD,
               "a read over TLS takes a common frame with its header in its records");
_Static_assert(SHARED_SIZE >= KEEP_SIZE + READ_SIZE, "a read fits behind what was kept");
_Static_assert(SHARED_SIZE >= KEEP_SIZE + SEALED_SIZE, "what a read over TLS opens to fits behind what was kept");
_Static_assert(KEEP_SIZE >= CLIENT_HEADER, "a frame whose header is not whole is kept");
_Static_assert(KEEP_SIZE >= CLIENT_HEADER + CONTROL_SIZE, "a control frame that is not whole is kept");
_Static_assert(TIGHT_READ_SIZE <= READ_SIZE && TIGHT_READ_SIZE <= SEALED_SIZE, "a tight pump reads less");
_Static_assert(MIN_PIECE_SIZE <= PIECE_SIZE, "the least piece is no larger than the others");
_Static_assert(BATCH * MIN_PIECE_SIZE <= 2 * BATCH_SIZE, "a full batch takes no more than twice its bound");
_Static_assert(SEAL_SIZE >= COMMON_FRAME, "a common frame is sealed in one go");
_Static_assert(INFLATE_SIZE > LARGEST_ANEW, "a message that is deflated anew is inflated in one piece");
_Static_assert(ANSWER_ROOM >= SERVER_HEADER, "a header fits in front of a deflated answer");

/* How much of `size` bytes to send in one go of about `most`. The last piece may be larger by a header: otherwise a
   message of a round size would leave some bytes for a send of their own. */
static inline size_t send_piece(size_t size, size_t most)
{
    return size <= most + SERVER_HEADER ? size : most;
}

#endif
