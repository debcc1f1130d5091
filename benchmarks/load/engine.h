/* The connections, and the one epoll loop that serves them.
 *
 * Knows: how a connection is opened, how messages, answers and pings pass, and how it is closed. Must never know: which
 * figures a mode wants. A mode decides in three hooks what happens next.
 */
#ifndef LOAD_ENGINE_H
#define LOAD_ENGINE_H

#include "answers.h"
#include "histogram.h"
#include "options.h"
#include "script.h"
#include "transport.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { STATE_CLOSED, STATE_CONNECTING, STATE_UPGRADING, STATE_OPEN } State;

typedef struct {
    Transport transport;
    State state;
    bool wants_write;   /* the interest that epoll knows */
    bool data_started;  /* part of a message may have been sent: a control frame has to wait */
    bool close_sent;
    bool close_received;
    bool stays;         /* storm: it stays, its answers alone are timed, and it is served before the others */
    unsigned serial;    /* the number of connections opened before it */
    unsigned out_entry; /* the message being sent */
    unsigned out_left;  /* messages still to send, including this one */
    size_t out_offset;  /* octets of it that were sent */
    unsigned outstanding; /* messages without an answer so far */
    unsigned asked_slot;
    unsigned answered_slot;
    uint64_t *asked_at; /* a ring of times, with room for all messages in flight */
    uint64_t opening_since;
    unsigned control_len;
    unsigned control_at;
    uint8_t control_out[2 + 4 + MOST_CONTROL_OCTETS];
    unsigned head_len;
    uint8_t *head; /* only while the response's head is incomplete */
    Answers answers;
} Connection;

typedef struct Engine {
    const Options *options;
    Script script;
    int epoll;
    int first_epoll; /* storm: the connections that stay. Otherwise -1 */
    uint64_t now; /* nanoseconds, at the last receive */
    bool timing; /* whether answers are counted and timed */
    unsigned serial; /* number of connections opened so far */
    unsigned opening;
    unsigned open;
    uint64_t outstanding;
    uint64_t answered; /* all answers */
    uint64_t messages; /* answers while timing, or whatever a mode counts */
    uint64_t packed; /* compressed answers while timing */
    uint64_t pings;  /* the server's pings */
    Histogram latency;
    void (*on_open)(struct Engine *engine, Connection *connection);
    void (*on_answers)(struct Engine *engine, Connection *connection, unsigned answers);
    void (*on_close)(struct Engine *engine, Connection *connection);
} Engine;

uint64_t engine_clock(void);

void engine_setup(Engine *engine, const Options *options);

/* Serves the ready connections, and waits for them at most so many milliseconds. */
void engine_turn(Engine *engine, int milliseconds);

/* Begins to open a connection. `first` is the first message that it will send, an index into the cycle. */
void connection_begin(Engine *engine, Connection *connection, unsigned first);

/* Sends messages. Their answers are timed from `since`. */
void connection_ask(Engine *engine, Connection *connection, unsigned messages, uint64_t since);

/* Sends a ping with the next message as its payload. Its pong counts as the answer. One may be in flight. */
void connection_ping(Engine *engine, Connection *connection, uint64_t since);

/* Begins the closing handshake (RFC 6455 section 7.1.2). */
void connection_say_close(Engine *engine, Connection *connection);

/* Closes the socket without a closing handshake. */
void connection_drop(Engine *engine, Connection *connection);

#endif
