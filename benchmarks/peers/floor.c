/* The floor: the least work that a WebSocket echo server can do on one thread with epoll.
 *
 * It makes the opening handshake, and unmasks and returns each frame in place. It does not check UTF-8, has no limits
 * and no extensions, and trusts its client. So no correct server can be expected to be faster. It is a yardstick, not a
 * server.
 *
 * Knows: RFC 6455 sections 4.2.2 and 5.2. Must never know: the rest of it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, ROOM = 256 * 1024, MOST_REQUEST = 4096 };

typedef struct {
    int fd;
    bool open;
    bool closing;
    uint8_t mask[8]; /* the key twice, rotated so that mask[0] is for the next octet */
    uint64_t remaining;
    uint8_t *held; /* octets of a request or frame header that a read cut */
    size_t held_len;
    uint8_t *unsent;
    size_t unsent_len;
} Connection;

static uint8_t buffer[MOST_REQUEST + ROOM];
static int epoll;

/* --- SHA-1 (FIPS 180-4) and Base64, for Sec-WebSocket-Accept ------------------------------------------------------ */

static uint32_t rotate(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

static void sha1_block(uint32_t h[5], const uint8_t *p)
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    }
    for (int i = 16; i < 80; i++) {
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    }
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20               ? (b & c) | (~b & d)
                     : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d)
                                          : b ^ c ^ d;
        static const uint32_t k[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
        uint32_t t = rotate(a, 5) + f + e + k[i / 20] + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = t;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* The key and the GUID are 60 octets: with padding, two blocks. */
static void accept_value(const char *key, char out[29])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t text[128] = {0}, digest[21] = {0};
    memcpy(text, key, 24);
    memcpy(text + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    text[60] = 0x80;
    text[126] = 480 >> 8;
    text[127] = 480 & 0xff;
    sha1_block(h, text);
    sha1_block(h, text + 64);
    for (int i = 0; i < 20; i++) {
        digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
    }
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++) {
            out[4 * i + j] = alphabet[three >> (18 - 6 * j) & 63];
        }
    }
    out[27] = '=';
    out[28] = '\0';
}

/* --- sockets ------------------------------------------------------------------------------------------------------ */

static void drop(Connection *c)
{
    close(c->fd);
    free(c->held);
    free(c->unsent);
    free(c);
}

static void watch(Connection *c, int operation, uint32_t what)
{
    struct epoll_event event = {.events = what, .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &event);
}

/* Sends octets, and keeps what the socket does not take. Nothing is read from a client that does not read. */
static bool put(Connection *c, const uint8_t *octets, size_t len)
{
    ssize_t sent = send(c->fd, octets, len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        return false;
    }
    size_t rest = len - (sent > 0 ? (size_t)sent : 0);
    if (rest > 0) {
        c->unsent = malloc(rest);
        c->unsent_len = rest;
        memcpy(c->unsent, octets + len - rest, rest);
        watch(c, EPOLL_CTL_MOD, EPOLLOUT);
    }
    return true;
}

static bool put_unsent(Connection *c)
{
    uint8_t *unsent = c->unsent;
    size_t len = c->unsent_len;
    c->unsent = NULL;
    c->unsent_len = 0;
    bool good = put(c, unsent, len);
    free(unsent);
    if (good && c->unsent == NULL) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    }
    return good;
}

static void hold(Connection *c, const uint8_t *octets, size_t len)
{
    free(c->held);
    c->held = NULL;
    c->held_len = len;
    if (len > 0) {
        c->held = malloc(len);
        memcpy(c->held, octets, len);
    }
}

/* --- the protocol ------------------------------------------------------------------------------------------------- */

/* Returns the octets used, 0 if the request is incomplete, or -1 if it is no opening handshake. */
static ssize_t shake_hands(Connection *c, uint8_t *octets, size_t len)
{
    static const char name[] = "Sec-WebSocket-Key: ";
    uint8_t *end = memmem(octets, len, "\r\n\r\n", 4);
    uint8_t *key = memmem(octets, len, name, sizeof name - 1);
    if (end == NULL) {
        return len < MOST_REQUEST ? 0 : -1;
    }
    if (key == NULL || key + sizeof name - 1 + 24 > end) {
        return -1;
    }
    char accept[29], response[256];
    accept_value((char *)key + sizeof name - 1, accept);
    int length = snprintf(response, sizeof response,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    c->open = true;
    return put(c, (uint8_t *)response, (size_t)length) ? end + 4 - octets : -1;
}

/* Unmasks a piece of a payload from `from` to `to`, which may overlap with `to` before `from`. */
static void unmask(Connection *c, uint8_t *to, const uint8_t *from, size_t len)
{
    uint64_t mask;
    memcpy(&mask, c->mask, 8);
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t octets;
        memcpy(&octets, from + i, 8);
        octets ^= mask;
        memcpy(to + i, &octets, 8);
    }
    for (; i < len; i++) {
        to[i] = from[i] ^ c->mask[i & 3];
    }
    uint8_t turned[8];
    for (size_t j = 0; j < 8; j++) {
        turned[j] = c->mask[(len + j) & 3];
    }
    memcpy(c->mask, turned, 8);
    c->remaining -= len;
}

/* Writes the server's header of a frame. Returns the size of the client's header, or 0 if that is incomplete. */
static size_t turn_header(Connection *c, const uint8_t *octets, size_t len, uint8_t *to, size_t *written)
{
    if (len < 2) {
        return 0;
    }
    size_t width = (octets[1] & 0x7f) == 126 ? 2 : (octets[1] & 0x7f) == 127 ? 8 : 0;
    if (len < 6 + width) {
        return 0;
    }
    c->remaining = width == 0 ? octets[1] & 0x7f : 0;
    for (size_t i = 0; i < width; i++) {
        c->remaining = c->remaining << 8 | octets[2 + i];
    }
    memcpy(c->mask, octets + 2 + width, 4);
    memcpy(c->mask + 4, octets + 2 + width, 4);
    uint8_t first = octets[0];
    c->closing = c->closing || (first & 0x0f) == 8;
    /* A ping becomes a pong, a Close frame its own answer. */
    to[0] = (first & 0x0f) == 9 ? (uint8_t)(first + 1) : first;
    to[1] = octets[1] & 0x7f;
    memmove(to + 2, octets + 2, width);
    *written = 2 + width;
    return 6 + width;
}

/* Turns the received octets into the answer, in place: the server's headers are four octets shorter. */
static bool echo(Connection *c, uint8_t *octets, size_t len)
{
    size_t in = 0, out = 0;
    while (in < len) {
        if (c->remaining == 0) {
            size_t written, used = turn_header(c, octets + in, len - in, octets + out, &written);
            if (used == 0) {
                hold(c, octets + in, len - in);
                break;
            }
            in += used;
            out += written;
        }
        size_t take = c->remaining < len - in ? (size_t)c->remaining : len - in;
        unmask(c, octets + out, octets + in, take);
        in += take;
        out += take;
    }
    return out == 0 || put(c, octets, out);
}

static bool receive(Connection *c)
{
    size_t before = c->held_len;
    if (before > 0) {
        memcpy(buffer, c->held, before);
        hold(c, NULL, 0);
    }
    ssize_t got = recv(c->fd, buffer + before, ROOM, 0);
    if (got <= 0) {
        if (got < 0 && errno == EAGAIN) {
            hold(c, buffer, before);
            return true;
        }
        return false;
    }
    size_t len = before + (size_t)got;
    size_t used = 0;
    if (!c->open) {
        ssize_t taken = shake_hands(c, buffer, len);
        if (taken <= 0) {
            hold(c, buffer, len);
            return taken == 0;
        }
        used = (size_t)taken;
    }
    return used == len || echo(c, buffer + used, len - used);
}

static bool serve(Connection *c)
{
    bool good = c->unsent != NULL ? put_unsent(c) : receive(c);
    return good && !(c->closing && c->remaining == 0 && c->unsent == NULL);
}

static void accept_all(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int listen_on(uint16_t port)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 1024) != 0) {
        perror("floor");
        exit(1);
    }
    return listener;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: floor PORT\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int listener = listen_on((uint16_t)atoi(argv[1]));
    epoll = epoll_create1(0);
    struct epoll_event events[EVENTS], listening = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (c == NULL) {
                accept_all(listener);
            } else if (!serve(c)) {
                drop(c);
            }
        }
    }
}
