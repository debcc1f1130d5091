/*
 * What a leased connection over TLS needs: sealed octets (TLS records) in, plain ones out, and back.
 *
 * Knows the few functions of OpenSSL that are handed in, by their addresses in the library that made the session (cryptography's): no other
 * is linked, and none of its headers is read. Must never know a socket or a frame.
 *
 * A session is an SSL object over two memory BIOs, after its handshake. All that it is, is in these: sealed octets that are neither opened
 * nor sent are in the BIOs, so that whoever has the session next goes on with nothing lost and nothing twice.
 */
#ifndef ECHOD_TLS_H
#define ECHOD_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pump.h"

/* cffi: begin */

/* Each is OpenSSL's function of that name; an SSL and a BIO are void here. */
struct echod_openssl {
    int (*SSL_read)(void *ssl, void *octets, int size);
    int (*SSL_peek)(void *ssl, void *octets, int size);
    int (*SSL_write)(void *ssl, const void *octets, int size);
    int (*SSL_get_error)(void *ssl, int result);
    int (*BIO_read)(void *bio, void *octets, int size);
    int (*BIO_write)(void *bio, const void *octets, int size);
    long (*BIO_get_mem_data)(void *bio, char **octets);
    void (*ERR_clear_error)(void);
    int SSL_ERROR_WANT_READ;
};

/* cffi: end */

typedef struct {
    const echod_openssl *openssl;
    void *ssl;
    void *in;  /* what the peer sent */
    void *out; /* what is to be sent to it */
    /* Something else than octets is next: a close_notify, an alert, a fault, or a handshake in which nothing can be written. */
    bool is_odd;
    /* The most octets that were in each BIO at a time. */
    size_t most_in;
    size_t most_out;
} echod_tls;

/* Sealed octets that were received and have not been put into the session yet. */
typedef struct {
    const uint8_t *octets;
    size_t size;
} echod_sealed;

/* Open what there is, into target[0, room); the answer is its size. Less than `room`: there is no more, or the session is odd. Behind a
   record that is not authentic nothing can be sealed: what was opened with it in one go gets no answer. */
size_t echod_tls_open(echod_tls *tls, echod_sealed *sealed, uint8_t *target, size_t room);

/* As above, but leave it there. */
size_t echod_tls_peek(echod_tls *tls, uint8_t *target, size_t room);

/* Put all of it into the session, which may not open it for a while. False: there is no memory. */
bool echod_tls_keep(echod_tls *tls, echod_sealed *sealed);

/* Seal octets[0, size), but at most some records of them; the answer is how much that was. Less than asked for: see above, or it is odd. */
size_t echod_tls_seal(echod_tls *tls, const uint8_t *octets, size_t size);

/* What is to be sent: its size, and where it begins. */
size_t echod_tls_unsent(const echod_tls *tls, const uint8_t **octets);

/* Forget the first `size` octets of that. */
void echod_tls_sent(echod_tls *tls, size_t size);

/* Octets received that the session has not begun to open. */
size_t echod_tls_unopened(const echod_tls *tls);

/* Octets of memory that the BIOs take, as far as they are in use: nothing, while both are empty. */
size_t echod_tls_held(const echod_tls *tls);

/* Whether the BIOs take much more memory than when they were new. */
bool echod_tls_has_grown(const echod_tls *tls);

#endif
