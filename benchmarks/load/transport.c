/* Sockets with or without TLS. See transport.h. */
#include "transport.h"

#include "fail.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

enum { SOURCES = 64, CONNECTIONS_PER_SOURCE = 256 };

#ifdef WITH_TLS

static SSL_CTX *context;

void transport_setup_tls(const char *ca)
{
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_load_verify_locations(context, ca, NULL) != 1) {
        fail("TLS: can't read %s", ca);
    }
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(context, 1); /* one receive for many records instead of two for each */
    SSL_CTX_set_default_read_buffer_len(context, 65536);
}

static void *tls_start(int fd)
{
    SSL *tls = SSL_new(context);
    SSL_set_fd(tls, fd);
    SSL_set_connect_state(tls);
    return tls;
}

static int tls_outcome(SSL *tls, int result)
{
    int error = SSL_get_error(tls, result);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        return IO_AGAIN;
    }
    return error == SSL_ERROR_ZERO_RETURN ? IO_END : IO_BROKEN;
}

static ssize_t tls_send(SSL *tls, const struct iovec *pieces, int count)
{
    ssize_t sent = 0;
    for (int i = 0; i < count; i++) {
        size_t at = 0;
        while (at < pieces[i].iov_len) {
            int n = SSL_write(tls, (const uint8_t *)pieces[i].iov_base + at, (int)(pieces[i].iov_len - at));
            if (n <= 0) {
                int outcome = tls_outcome(tls, n);
                return sent > 0 ? sent : outcome;
            }
            at += (size_t)n;
            sent += n;
        }
    }
    return sent;
}

int transport_handshake(Transport *transport)
{
    if (transport->tls == NULL) {
        return 1;
    }
    int result = SSL_do_handshake(transport->tls);
    return result == 1 ? 1 : tls_outcome(transport->tls, result);
}

bool transport_has_buffered(const Transport *transport)
{
    return transport->tls != NULL && SSL_has_pending(transport->tls);
}

#else

void transport_setup_tls(const char *ca)
{
    fail("built without WITH_TLS: can't use %s", ca);
}

int transport_handshake(Transport *transport)
{
    (void)transport;
    return 1;
}

bool transport_has_buffered(const Transport *transport)
{
    (void)transport;
    return false;
}

#endif

static int source_bound_socket(unsigned serial)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail("socket: %s", strerror(errno));
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    uint32_t source = INADDR_LOOPBACK + (serial / CONNECTIONS_PER_SOURCE) % SOURCES;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0) {
        fail("bind: %s", strerror(errno));
    }
    return fd;
}

Transport transport_open(const char *host, uint16_t port, unsigned serial, bool tls)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    Transport transport = {.fd = source_bound_socket(serial)};
    if (connect(transport.fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) {
        fail("connect: %s", strerror(errno));
    }
#ifdef WITH_TLS
    transport.tls = tls ? tls_start(transport.fd) : NULL;
#else
    (void)tls;
#endif
    return transport;
}

static ssize_t outcome(ssize_t result)
{
    if (result >= 0) {
        return result;
    }
    return errno == EAGAIN || errno == EINTR || errno == ENOTCONN ? IO_AGAIN : IO_BROKEN;
}

ssize_t transport_receive(Transport *transport, uint8_t *into, size_t room)
{
#ifdef WITH_TLS
    if (transport->tls != NULL) {
        int n = SSL_read(transport->tls, into, (int)room);
        return n > 0 ? n : tls_outcome(transport->tls, n);
    }
#endif
    return outcome(recv(transport->fd, into, room, 0));
}

ssize_t transport_send(Transport *transport, const struct iovec *pieces, int count)
{
#ifdef WITH_TLS
    if (transport->tls != NULL) {
        return tls_send(transport->tls, pieces, count);
    }
#endif
    if (count == 1) {
        return outcome(send(transport->fd, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL));
    }
    struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
    return outcome(sendmsg(transport->fd, &message, MSG_NOSIGNAL));
}

void transport_close(Transport *transport)
{
#ifdef WITH_TLS
    if (transport->tls != NULL) {
        SSL_free(transport->tls);
    }
#endif
    close(transport->fd);
    *transport = (Transport){.fd = -1};
}
