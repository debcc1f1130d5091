/* Octets in and out of one socket, in the clear or under TLS.
 *
 * Knows: non-blocking sockets, OpenSSL (where built WITH_TLS). Must never know: HTTP, frames.
 */
#ifndef LOAD_TRANSPORT_H
#define LOAD_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { IO_END = 0, IO_AGAIN = -1, IO_BROKEN = -2 }; /* what a positive count of octets is not */

typedef struct {
    int fd;
    void *tls; /* SSL *, or NULL in the clear */
} Transport;

void transport_setup_tls(const char *ca);

/* A socket that is connecting; source addresses in 127.0.0.0/8 are taken in turn, so that ports can't run out. */
Transport transport_open(const char *host, uint16_t port, unsigned serial, bool tls);

/* 1 when the TLS handshake is complete (at once in the clear), or one of the IO_ values. */
int transport_handshake(Transport *transport);

ssize_t transport_receive(Transport *transport, uint8_t *into, size_t room);
ssize_t transport_send(Transport *transport, const struct iovec *pieces, int count);

/* Octets that were already taken from the socket and that epoll can't tell of. */
bool transport_has_buffered(const Transport *transport);

void transport_close(Transport *transport);

#endif
