/*
 * The pump: it serves sockets without Python, all that are ready in one turn. Begin here.
 *
 * A glossary of this folder:
 *
 *   codec      a function from a client's frames to the server's frames that echo them (codec.h)
 *   ordinary   a frame that the codec takes: final, masked, text or binary, valid. Anything else is a control frame, is
 *              gathered (see below), or is left to Autobahn
 *   control    a ping, which is answered, or a pong, which is a sign of life like any other bytes (control.h)
 *   pump       an epoll set of sockets, and what they share: one read buffer, the buffer pool, TLS and zlib
 *   lease      one socket in the pump, on loan from its Twisted transport. It begins between two messages
 *   owner      the Python side, which takes the socket back with every byte that was not served when the lease ends
 *   odd        what the owner has to judge: a Close frame, a fault, a close_notify. It ends the lease
 *   partial    the beginning of an ordinary frame. A small one is kept as it came; a large one gets its own buffer
 *   gathered   a fragmented or deflated message that is put together as it arrives
 *   put off    the rest of a read for which the lease had no time left; it is served in a later turn
 *   unsent     answers that the kernel did not take; `later` holds the answers behind them
 *   window     the end of the content of the deflated messages so far, to which the next message may refer
 *   held       the account of a lease: the memory of its buffers. The pool's spare buffers are in no lease's account
 *   tight      memory is short: a lease may hold a small frame only
 *
 * A function that returns bool and is not a question (is_, has_) returns false for one reason, which its comment names.
 * If there are several ways to go on, the result is an enum.
 *
 * Knows sockets, epoll and the codec; and what tls.h says of TLS, gather.h of fragments, deflate.h of zlib, control.h of
 * control frames. Must never know a transport, a reactor or a handshake.
 *
 * Only one thread may use a pump. It needs Linux; elsewhere (pump_none.c) echod_pump_new returns NULL.
 */
#ifndef ECHOD_PUMP_H
#define ECHOD_PUMP_H

#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "deflate.h"

/* cffi: begin */

typedef struct echod_pump echod_pump;

/* The functions of OpenSSL: see tls.h. */
typedef struct echod_openssl echod_openssl;

/* Why a lease ended. */
typedef enum {
    ECHOD_END_RECALLED,     /* the owner asked for it */
    ECHOD_END_NOT_ORDINARY, /* what comes next is Autobahn's; or the frame is above the limit, or memory is too short to
                               wait for it; or it is for the owner of the TLS session */
    ECHOD_END_BLOCKED,      /* the pump is tight, and the peer does not take its answers */
    ECHOD_END_CLOSED,       /* end of file or an error: the owner's next read tells which */
    ECHOD_END_NO_MEMORY,    /* received bytes are lost: abort the connection */
} echod_end;

typedef struct echod_lease {
    /* By these the owner knows the lease. */
    int fd;
    uint32_t slot;
    /* Messages echoed so far, the bytes of their payloads, and reads, which are signs of life. */
    uint64_t messages;
    uint64_t octets;
    uint64_t reads;
    /* When the pump last read, in nanoseconds of CLOCK_MONOTONIC. 0: it has not read yet. */
    uint64_t read_at;
    /* The account: bytes of memory that the lease's buffers take now, for a message that is not whole and for unsent
       answers. A buffer counts with its whole allocation, not with what is left in it; of a large one the pages count
       that take memory. The lease itself and its window are not in it: they are what a connection costs at rest. */
    size_t held;
    /* Bytes of answers that the kernel did not take. */
    size_t unsent_size;
    /* The same over TLS, in records. When the lease has ended they are in the session, and go before the unsent
       answers. */
    size_t sealed_size;
    /* After the end: the reason, and the bytes that were received and not echoed, as the client sent them. The lease
       owns them. */
    echod_end why;
    const uint8_t *rest;
    size_t rest_size;
    /* The buffer they are in. The owner may take this buffer, and that of the large frame, and puts NULL in its
       place. */
    uint8_t *rest_buffer;
    /* Instead of a rest: a large frame (codec.h) that is not whole, or is invalid. The buffer has room for the whole
       frame, and the payload so far begins after ECHOD_LARGE_ROOM bytes. NULL: there is no such frame. The bytes behind
       an invalid frame are left out, because they are never read. */
    echod_large large;
    uint8_t *large_octets;
    /* If the first frame of the rest stands for several whole frames of a fragmented message: their number. Otherwise
       0. */
    uint32_t fragments;
    /* The window (deflate.h) for the next deflated message. The lease owns it, too. */
    const uint8_t *window;
    size_t window_size;
    /* The unsent answers, which go before anything else that is written: `unsent_first` bytes, then those at
       `later`. */
    const uint8_t *unsent;
    size_t unsent_first;
    const uint8_t *later;
    /* The next lease that ended in the same turn. */
    struct echod_lease *next;
    /* Over TLS: whether the session's BIOs have grown, and the next lease for which the same turn found that. */
    int has_grown;
    struct echod_lease *next_grown;
} echod_lease;

/* Make a pump for messages of at most this size, in at most so many frames. NULL, with errno, if that is impossible. On
   a 32-bit processor the pump leaves messages that are too large to address to the owner, whatever the limit allows. */
echod_pump *echod_pump_new(uint64_t max_message_size, uint32_t max_fragments);

/* Release a pump. Its leases must have ended. */
void echod_pump_free(echod_pump *pump);

/* The descriptor that is readable while a leased socket is ready. */
int echod_pump_fd(const echod_pump *pump);

/* Lease a non-blocking stream socket. NULL: the kernel does not take it, or there is no memory. */
echod_lease *echod_pump_lend(echod_pump *pump, int fd, uint32_t slot);

/* Lease a socket with the TLS session on it: an SSL and its two memory BIOs. Its handshake must be over, it must have
   nothing to send, and must have been read until it had nothing more. Nobody else may touch it until the lease has
   ended. Call echod_pump_set_openssl first. */
echod_lease *echod_pump_lend_tls(echod_pump *pump, int fd, uint32_t slot, void *ssl, void *in, void *out);

/* Set the functions of the library that makes the sessions. They are copied. */
void echod_pump_set_openssl(echod_pump *pump, const echod_openssl *openssl);

/* Set the functions of zlib, once. They are copied. From then on leases may take deflated messages. 0, or -1 if there
   is no memory, or the library refuses the z_stream of deflate.c. */
int echod_pump_set_zlib(echod_pump *pump, const echod_zlib *zlib, const echod_deflate_settings *settings);

/* Let a new lease take deflated messages on these terms. The window, for the first of them, is copied. 0, or -1 if
   there is no memory, or no compressor for such terms; then recall the lease. */
int echod_pump_take_deflated(echod_pump *pump, echod_lease *lease, const echod_terms *terms, const uint8_t *window,
                             size_t size);

/* Serve the ready sockets, for about budget_ns. Returns the list of leases that ended. */
echod_lease *echod_pump_turn(echod_pump *pump, uint64_t budget_ns);

/* Send a ping on a lease, behind the answers that wait. Returns the list of leases that ended, as a turn does: this one,
   or none. No ping goes out within a deflated message: the lease ends as if the owner had asked for it. */
echod_lease *echod_pump_ping(echod_pump *pump, echod_lease *lease);

/* The list of leases whose BIOs the last turn found grown. It is good until a lease is released. Memory BIOs never
   shrink: their owner may end the lease, and replace them. */
echod_lease *echod_pump_grown(const echod_pump *pump);

/* Bytes of answers that the peer's end has not taken: those that wait, and those that only the kernel has. At least 1 if
   the kernel does not tell. */
size_t echod_lease_pending(const echod_lease *lease);

/* End a lease that has not ended. */
void echod_pump_recall(echod_pump *pump, echod_lease *lease);

/* Release a lease that has ended, and its buffers. */
void echod_lease_free(echod_lease *lease);

/* Release a buffer that was taken from a lease. */
void echod_buffer_free(uint8_t *buffer);

/* Bytes that all leases hold: the sum of their accounts. */
size_t echod_pump_held(const echod_pump *pump);

/* What all leases have echoed, including those that are gone. Valid as long as the pump. */
const echod_sums *echod_pump_sums(const echod_pump *pump);

/* Make the pump tight, or no longer. While it is tight no lease holds more than a small piece of a frame. */
void echod_pump_set_tight(echod_pump *pump, int is_tight);

/* Bytes of the spare buffers in the pool. No lease holds them. */
size_t echod_pump_spare(const echod_pump *pump);

/* Release the spare buffers. */
void echod_pump_trim(echod_pump *pump);

/* The number of bytes of octets[0, size) that are in pages which take memory; `size` if that can't be told. Some pages
   that an allocator gives were in use before and take memory. Others take none until they are written to. */
size_t echod_resident(const uint8_t *octets, size_t size);

/* cffi: end */

#endif
