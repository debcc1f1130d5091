/* The command line as one value.
 *
 * Knows: the options, their ranges, and which go together. Must never know: sockets, frames, clocks.
 */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { MAX_WATCHED = 64 };
enum { MOST_CONTROL_OCTETS = 125 }; /* RFC 6455 section 5.5 */

typedef enum {
    MODE_ECHO,    /* each connection keeps its messages in flight: the most that the server can do */
    MODE_LATENCY, /* messages are sent at a fixed rate, whatever the server does: the duration of each */
    MODE_OPENS,   /* connections are opened and closed repeatedly */
    MODE_HOLD,    /* connections are opened and kept: their cost for the server while idle */
    MODE_PINGS,   /* like echo, with a ping and its pong in place of a message and its answer */
    MODE_PINGED,  /* connections only answer the server's pings, which are counted */
    MODE_STORM,   /* all connections are lost and come back at once, and others stay and send at a fixed rate */
} Mode;

typedef enum { KIND_ASCII, KIND_MULTIBYTE, KIND_BINARY } Kind;

typedef enum {
    DEFLATE_OFF,
    DEFLATE_NO_TAKEOVER,
    DEFLATE_TAKEOVER,
    DEFLATE_BROWSER, /* browsers' offer, whatever the server makes of it: for one message on each connection */
} Deflate;

typedef struct {
    const char *host; /* dotted, in 127.0.0.0/8: the generator loads only this machine */
    const char *path;
    const char *ca; /* the certificate to trust with TLS */
    uint16_t port;
    Mode mode;
    Kind kind;
    Deflate deflate;
    bool tls;
    bool proxied; /* each request has the lines that a proxy adds, and they differ from connection to connection */
    bool echo;  /* opens, hold: send one message on each connection (opens: make a closing handshake, too) */
    bool pause; /* print "open" and "measured", and wait for a line after each: the caller can look at the server */
    unsigned connections;
    unsigned idle;
    unsigned stay; /* storm: connections that send at the fixed rate before and meanwhile */
    unsigned in_flight;
    unsigned fragments;
    size_t size;
    double seconds;
    double warmup;
    double rate; /* latency: messages per second over all connections; storm: over those that stay */
    double patience; /* seconds without progress after which outstanding answers count as missing */
    pid_t watched[MAX_WATCHED]; /* the server's processes, whose CPU time counts */
    unsigned watching;
} Options;

Options options_parse(int argc, char **argv);

#endif
