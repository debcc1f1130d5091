/* The opening handshake. See upgrade.h. */
#include "upgrade.h"

#include "fail.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Keys and the values of Sec-WebSocket-Accept that answer them; the first is that of RFC 6455 section 1.3. Constants
 * save a SHA-1 for each connection. Several of them show a server that answers a key with the value of another. */
static const struct {
    const char *key;
    const char *accept;
} KEYS[] = {
    {"dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
    {"IjSOCBpFqEPiaSYECo7TVg==", "r2pHAxiylo6dqxz9GNmH03gwhOU="},
    {"cJ+OXXcgjwn6tm9opqngsg==", "a9w6JtzCiMzzNCDJzTsp12DgE9o="},
    {"f8akcvB3Nv6CtmXZKUnIag==", "M6FKrcTxp8GCWilmR+Sak2aUEoE="},
    {"r2KNJ+tHdNO87U5F4IYE6g==", "Uk2h5LL/UDGvFKcVfvKKQD+CQfE="},
    {"ttkzM32teDCqCrJY5GcqFw==", "U5bV76NpJMmIblc2llJQjPtSflk="},
    {"In9o269o1KiNbqPQY1YDKw==", "YyKeABBXgNURlx33e/milZmGaC0="},
    {"d5/iu1zh7PqpbzZzFG/tqA==", "PKRxLdf2fSUhgg3iq8iY662ZKR4="},
};

enum { KEY_COUNT = sizeof KEYS / sizeof *KEYS };

size_t upgrade_request(const Options *o, unsigned serial, char *into, size_t room)
{
    static const char *const offers[] = {
        "",
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    };
    char added[128] = "";
    if (o->proxied) {
        snprintf(added, sizeof added,
                 "X-Forwarded-For: 192.0.2.%u\r\nX-Forwarded-Proto: https\r\nX-Request-Id: %08x%08x%08x%08x\r\n",
                 serial % 256, serial, ~serial, serial * 2654435761U, serial ^ 0x5bd1e995U);
    }
    int len = snprintf(into, room,
                       "GET %s HTTP/1.1\r\nHost: localhost:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s%s\r\n",
                       o->path, o->port, KEYS[serial % KEY_COUNT].key, offers[o->deflate], added);
    return (size_t)len;
}

/* Returns the value of a header field in a head that ends in NUL, or NULL. */
static const char *field(const char *head, const char *name, char *value, size_t room)
{
    const char *line = head;
    while ((line = strstr(line, "\r\n")) != NULL) {
        line += 2;
        if (strncasecmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':') {
            line += strlen(name) + 1;
            line += strspn(line, " \t");
            snprintf(value, room, "%.*s", (int)strcspn(line, "\r"), line);
            return value;
        }
    }
    return NULL;
}

static void check_extension(const Options *o, const char *extensions)
{
    bool agreed = extensions != NULL && strncasecmp(extensions, "permessage-deflate", 18) == 0;
    if (o->deflate == DEFLATE_OFF && extensions != NULL) {
        fail("the server chose an extension that was not offered: %s", extensions);
    }
    if (o->deflate != DEFLATE_OFF && !agreed) {
        fail("the server refused permessage-deflate");
    }
    if (o->deflate == DEFLATE_NO_TAKEOVER && strstr(extensions, "server_no_context_takeover") == NULL) {
        /* RFC 7692 section 7.1.1.1: a server that accepts the offer must not keep its context. */
        fail("the server keeps its context: %s", extensions);
    }
    if (o->deflate == DEFLATE_TAKEOVER && strstr(extensions, "no_context_takeover") != NULL) {
        fail("the server refused context takeover: %s", extensions);
    }
}

size_t upgrade_response(const Options *o, unsigned serial, const uint8_t *octets, size_t len)
{
    char head[MOST_HEAD_OCTETS + 1];
    char value[512];
    if (len > MOST_HEAD_OCTETS) {
        len = MOST_HEAD_OCTETS;
    }
    memcpy(head, octets, len);
    head[len] = '\0';
    char *end = strstr(head, "\r\n\r\n");
    if (end == NULL) {
        if (len == MOST_HEAD_OCTETS) {
            fail("the response's head does not end");
        }
        return 0;
    }
    end[2] = '\0';
    if (strncmp(head, "HTTP/1.1 101", 12) != 0) {
        fail("refused: %.60s", head);
    }
    const char *accept = field(head, "Sec-WebSocket-Accept", value, sizeof value);
    if (accept == NULL || strcmp(accept, KEYS[serial % KEY_COUNT].accept) != 0) {
        fail("wrong Sec-WebSocket-Accept");
    }
    check_extension(o, field(head, "Sec-WebSocket-Extensions", value, sizeof value));
    return (size_t)(end - head) + 4;
}
