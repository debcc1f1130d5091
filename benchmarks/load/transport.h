/* Sends and receives octets on one socket, with or without TLS.
 *
 * Knows: non-blocking sockets, OpenSSL (if built WITH_TLS). Must never know: HTTP, frames.
 */
#ifndef LOAD_TRANSPORT_H
#define LOAD_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { IO_END = 0, IO_AGAIN = -1, IO_BROKEN = -2 }; /* results that are not a positive count of octets */

typedef struct {
    int fd;
    void *tls; /* SSL *, or NULL without TLS */
} Transport;

void transport_setup_tls(const char *ca);

/* Returns a connecting socket. Source addresses in 127.0.0.0/8 are used in turn, so that ports can't run out. */
Transport transport_open(const char *host, uint16_t port, unsigned serial, bool tls);

/* Returns 1 when the TLS handshake is complete (at once without TLS), or one of the IO_ values. */
int transport_handshake(Transport *transport);

ssize_t transport_receive(Transport *transport, uint8_t *into, size_t room);
ssize_t transport_send(Transport *transport, const struct iovec *pieces, int count);

/* Tells whether octets were already taken from the socket. epoll does not report these. */
bool transport_has_buffered(const Transport *transport);

void transport_close(Transport *transport);

#endif
