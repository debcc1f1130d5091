/* What the command line asks for, as one value.
 *
 * Knows: the options, their ranges, what goes with what. Must never know: sockets, frames, clocks.
 */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { MAX_WATCHED = 64 };

typedef enum {
    MODE_ECHO,    /* each connection keeps its messages in flight: what the server can do at most */
    MODE_LATENCY, /* messages leave at a fixed rate, whatever the server does: how long each takes */
    MODE_OPENS,   /* connections are opened and closed, again and again */
    MODE_HOLD,    /* connections are opened and kept: what they cost the server while idle */
} Mode;

typedef enum { KIND_ASCII, KIND_MULTIBYTE, KIND_BINARY } Kind;

typedef enum { DEFLATE_OFF, DEFLATE_NO_TAKEOVER, DEFLATE_TAKEOVER } Deflate;

typedef struct {
    const char *host; /* dotted, in 127.0.0.0/8: it loads nothing else */
    const char *path;
    const char *ca; /* the certificate to trust under TLS */
    uint16_t port;
    Mode mode;
    Kind kind;
    Deflate deflate;
    bool tls;
    bool echo;  /* opens, hold: one message on each connection (opens: and a closing handshake) */
    bool pause; /* print "open" and "measured" and wait for a line, so that the caller can look at the server */
    unsigned connections;
    unsigned idle;
    unsigned in_flight;
    unsigned fragments;
    size_t size;
    double seconds;
    double warmup;
    double rate; /* latency: messages per second over all connections */
    double patience; /* seconds without any progress before what is outstanding counts as missing */
    pid_t watched[MAX_WATCHED]; /* whose CPU time to count: the server's processes */
    unsigned watching;
} Options;

Options options_parse(int argc, char **argv);

#endif
