/*
 * What a leased connection over TLS needs: records in and plain bytes out, and back.
 *
 * Knows the few functions of OpenSSL that are handed in, by their addresses in the library that made the session, which
 * is cryptography's. No other OpenSSL is linked, and none of its headers is read. Must never know a socket or a frame.
 *
 * A session is an SSL object with two memory BIOs, after its handshake. They are the whole state: records that are not
 * opened or not sent yet are in the BIOs. So the next owner of the session loses no byte and repeats none.
 */
#ifndef ECHOD_TLS_H
#define ECHOD_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pump.h"

/* cffi: begin */

/* Each is OpenSSL's function of that name. An SSL and a BIO are void here. */
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
    /* Something else than payload comes next: a close_notify, an alert, a fault, or a handshake that blocks writing. */
    bool is_odd;
    /* The most bytes that each BIO has held. */
    size_t most_in;
    size_t most_out;
} echod_tls;

/* Records that were received, and are not in the session yet. */
typedef struct {
    const uint8_t *octets;
    size_t size;
} echod_sealed;

/* Open the records that there are, into target[0, room). Returns the size of their payload. Less than `room`: there is
   no more, or the session is odd. After a record that is not authentic nothing can be sealed, so messages that were
   opened together with it get no answer. */
size_t echod_tls_open(echod_tls *tls, echod_sealed *sealed, uint8_t *target, size_t room);

/* Open the records that there are, and leave their payload in the session. Returns its size. */
size_t echod_tls_peek(echod_tls *tls, uint8_t *target, size_t room);

/* Put all records into the session, which will open them later. False: there is no memory. */
bool echod_tls_keep(echod_tls *tls, echod_sealed *sealed);

/* Seal octets[0, size), but only some records at a time. Returns how many of the bytes were sealed. 0: the session is
   odd. */
size_t echod_tls_seal(echod_tls *tls, const uint8_t *octets, size_t size);

/* The records to send: their size, and where they begin. */
size_t echod_tls_unsent(const echod_tls *tls, const uint8_t **octets);

/* Remove the first `size` bytes of the records to send. */
void echod_tls_sent(echod_tls *tls, size_t size);

/* Bytes in the session that it has not begun to open. */
size_t echod_tls_unopened(const echod_tls *tls);

/* Bytes of memory that the BIOs take, if they are in use. 0 while both are empty. */
size_t echod_tls_held(const echod_tls *tls);

/* Whether the BIOs take much more memory than new ones. */
bool echod_tls_has_grown(const echod_tls *tls);

#endif
