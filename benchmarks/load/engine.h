/* The connections and the one epoll loop that serves them.
 *
 * Knows: how a connection is opened, asked, answered, pinged and closed. Must never know: which figures a mode is after; a mode
 * tells what to do next in three hooks.
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
    bool wants_write;   /* what epoll was told */
    bool data_started;  /* octets of `out_left` messages may be on their way: a control frame has to wait */
    bool close_sent;
    bool close_received;
    unsigned out_entry; /* the message being sent, how far it is, and how many are still to go, it included */
    unsigned out_left;
    size_t out_offset;
    unsigned outstanding; /* asked for and not yet answered */
    unsigned asked_slot;
    unsigned answered_slot;
    uint64_t *asked_at; /* a ring of as many times as may be in flight */
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
    uint64_t now; /* nanoseconds, as of the last receive */
    bool timing; /* answers are counted and timed */
    unsigned serial; /* connections ever opened */
    unsigned opening;
    unsigned open;
    uint64_t outstanding;
    uint64_t answered; /* every answer */
    uint64_t messages; /* answers while timing, or what else a mode counts */
    uint64_t packed; /* compressed ones among them */
    Histogram latency;
    void (*on_open)(struct Engine *engine, Connection *connection);
    void (*on_answers)(struct Engine *engine, Connection *connection, unsigned answers);
    void (*on_close)(struct Engine *engine, Connection *connection);
} Engine;

uint64_t engine_clock(void);

void engine_setup(Engine *engine, const Options *options);

/* Serves what is ready; waits for it up to so many milliseconds. */
void engine_turn(Engine *engine, int milliseconds);

/* Begins to open a connection. `first` is the message of the cycle that it starts with. */
void connection_begin(Engine *engine, Connection *connection, unsigned first);

/* Sends so many messages; their answers are timed from `since`. */
void connection_ask(Engine *engine, Connection *connection, unsigned messages, uint64_t since);

/* Begins the closing handshake (RFC 6455 section 7.1.2). */
void connection_say_close(Engine *engine, Connection *connection);

/* Closes the socket without more words. */
void connection_drop(Engine *engine, Connection *connection);

#endif
