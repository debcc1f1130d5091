/* The connections and their loop. See engine.h. */
#include "engine.h"

#include "fail.h"
#include "upgrade.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum { EVENTS_PER_TURN = 512, EVENTS_BETWEEN_FIRST = 16, RECEIVE_ROOM = 256 * 1024 };
enum { CLOSE_FRAME = 0x88, PING_FRAME = 0x89, PONG_FRAME = 0x8a, MASKED = 0x80 };

static uint8_t receive_buffer[RECEIVE_ROOM];

uint64_t engine_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

void engine_setup(Engine *engine, const Options *options)
{
    engine->options = options;
    engine->script = script_make(options);
    engine->epoll = epoll_create1(EPOLL_CLOEXEC);
    engine->first_epoll = options->mode == MODE_STORM ? epoll_create1(EPOLL_CLOEXEC) : -1;
    if (options->tls) {
        transport_setup_tls(options->ca);
    }
}

static void tell_epoll(Engine *engine, Connection *c, int operation, bool wants_write)
{
    struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0U), .data.ptr = c};
    c->wants_write = wants_write;
    if (epoll_ctl(c->stays ? engine->first_epoll : engine->epoll, operation, c->transport.fd, &event) != 0) {
        fail("epoll_ctl: %s", strerror(errno));
    }
}

void connection_drop(Engine *engine, Connection *c)
{
    if (c->state == STATE_OPEN) {
        engine->open--;
    } else if (c->state != STATE_CLOSED) {
        engine->opening--;
    }
    transport_close(&c->transport); /* this is the last descriptor of the socket, so epoll forgets it */
    engine->outstanding -= c->outstanding;
    answers_free(&c->answers);
    free(c->head);
    free(c->asked_at);
    *c = (Connection){.transport.fd = -1};
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void advance(const Script *script, Connection *c, size_t sent)
{
    sent += c->out_offset;
    while (c->out_left > 0 && sent >= script->entries[c->out_entry].wire_len) {
        sent -= script->entries[c->out_entry].wire_len;
        c->out_entry = script_next(script, c->out_entry);
        c->out_left--;
    }
    c->out_offset = sent;
    c->data_started = c->out_left > 0;
}

/* Returns the octets to send: in one piece, or in two if the cycle begins again. */
static int pieces_to_send(const Script *script, const Connection *c, struct iovec pieces[2])
{
    unsigned run = script->count - c->out_entry < c->out_left ? script->count - c->out_entry : c->out_left;
    const Entry *first = &script->entries[c->out_entry];
    const Entry *last = &script->entries[c->out_entry + run - 1];
    size_t from = first->wire_at + c->out_offset;
    pieces[0] = (struct iovec){script->wire + from, last->wire_at + last->wire_len - from};
    unsigned rest = c->out_left - run;
    if (rest == 0) {
        return 1;
    }
    first = &script->entries[script->steady];
    last = &script->entries[script->steady + rest - 1];
    pieces[1] = (struct iovec){script->wire + first->wire_at, last->wire_at + last->wire_len - first->wire_at};
    return 2;
}

static ssize_t send_control(Connection *c)
{
    struct iovec piece = {c->control_out + c->control_at, c->control_len - c->control_at};
    ssize_t sent = transport_send(&c->transport, &piece, 1);
    if (sent > 0) {
        c->control_at += (unsigned)sent;
        if (c->control_at == c->control_len) {
            c->control_at = c->control_len = 0;
        }
    }
    return sent;
}

static ssize_t send_messages(const Script *script, Connection *c)
{
    struct iovec pieces[2];
    int count = pieces_to_send(script, c, pieces);
    c->data_started = true;
    ssize_t sent = transport_send(&c->transport, pieces, count);
    if (sent > 0) {
        advance(script, c, (size_t)sent);
    }
    return sent;
}

static void flush(Engine *engine, Connection *c)
{
    while (c->control_len > 0 || c->out_left > 0) {
        /* A control frame may come between any two frames. Here it waits until the current messages are sent. */
        ssize_t sent = c->control_len > 0 && !c->data_started ? send_control(c) : send_messages(&engine->script, c);
        if (sent == IO_BROKEN) {
            if (!c->close_sent) {
                fail("the server reset a connection");
            }
            return; /* the next read tells how the connection ended */
        }
        if (sent == IO_AGAIN) {
            if (!c->wants_write) {
                tell_epoll(engine, c, EPOLL_CTL_MOD, true);
            }
            return;
        }
    }
    if (c->wants_write) {
        tell_epoll(engine, c, EPOLL_CTL_MOD, false);
    }
}

static void say_control(Engine *engine, Connection *c, uint8_t first, const uint8_t *payload, unsigned len)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    if (c->control_at > 0) {
        return; /* a pong is being sent; RFC 6455 section 5.5.3 lets one pong answer several pings */
    }
    c->control_out[0] = first;
    c->control_out[1] = (uint8_t)(MASKED | len);
    memcpy(c->control_out + 2, mask, 4);
    for (unsigned i = 0; i < len; i++) {
        c->control_out[6 + i] = payload[i] ^ mask[i & 3];
    }
    c->control_len = 6 + len;
    flush(engine, c);
}

void connection_say_close(Engine *engine, Connection *c)
{
    static const uint8_t normal[2] = {0x03, 0xe8}; /* 1000 */
    c->close_sent = true;
    say_control(engine, c, CLOSE_FRAME, normal, sizeof normal);
}

static void expect_answers(Engine *engine, Connection *c, unsigned messages, uint64_t since)
{
    for (unsigned i = 0; i < messages; i++) {
        c->asked_at[c->asked_slot] = since;
        c->asked_slot = c->asked_slot + 1 < engine->options->in_flight ? c->asked_slot + 1 : 0;
    }
    c->outstanding += messages;
    engine->outstanding += messages;
}

void connection_ask(Engine *engine, Connection *c, unsigned messages, uint64_t since)
{
    expect_answers(engine, c, messages, since);
    c->out_left += messages;
    flush(engine, c);
}

void connection_ping(Engine *engine, Connection *c, uint64_t since)
{
    const Entry *entry = &engine->script.entries[c->out_entry];
    expect_answers(engine, c, 1, since);
    say_control(engine, c, PING_FRAME, entry->plain, (unsigned)entry->plain_len);
}

/* --- receiving ---------------------------------------------------------------------------------------------------- */

static void count_answer(Engine *engine, Connection *c)
{
    if (c->outstanding == 0) {
        fail("more messages came back than were sent");
    }
    c->outstanding--;
    engine->outstanding--;
    engine->answered++;
    if (engine->timing && (c->stays || engine->first_epoll < 0)) {
        engine->messages++;
        engine->packed += c->answers.packed;
        histogram_add(&engine->latency, engine->now - c->asked_at[c->answered_slot]);
    }
    c->answered_slot = c->answered_slot + 1 < engine->options->in_flight ? c->answered_slot + 1 : 0;
}

/* A pong that answers no ping is allowed (RFC 6455 section 5.5.3), but a pong that answers one has its payload. */
static bool is_answer(Engine *engine, Connection *c)
{
    if (engine->options->mode != MODE_PINGS || c->outstanding == 0) {
        return false;
    }
    const Entry *entry = &engine->script.entries[c->out_entry];
    if (c->answers.control_len != entry->plain_len || memcmp(c->answers.control, entry->plain, entry->plain_len) != 0) {
        fail("wrong pong: %u octets that are not those of the ping", c->answers.control_len);
    }
    c->out_entry = script_next(&engine->script, c->out_entry);
    return true;
}

static void on_close_frame(Connection *c)
{
    const uint8_t *payload = c->answers.control;
    if (!c->close_sent) {
        fail("the server closed a connection with code %u",
             c->answers.control_len < 2 ? 1005U : (unsigned)(payload[0] << 8 | payload[1]));
    }
    c->close_received = true;
}

static void feed_frames(Engine *engine, Connection *c, const uint8_t *octets, size_t len)
{
    unsigned answers = 0;
    bool deflate = engine->options->deflate != DEFLATE_OFF;
    while (len > 0) {
        if (c->close_received) {
            fail("octets after a Close frame");
        }
        Event event;
        size_t used = answers_feed(&c->answers, &engine->script, deflate, octets, len, &event);
        octets += used;
        len -= used;
        if (event == EVENT_MESSAGE) {
            count_answer(engine, c);
            answers++;
        } else if (event == EVENT_PONG && is_answer(engine, c)) {
            count_answer(engine, c);
            answers++;
        } else if (event == EVENT_PING) {
            engine->pings++;
            say_control(engine, c, PONG_FRAME, c->answers.control, c->answers.control_len);
        } else if (event == EVENT_CLOSE) {
            on_close_frame(c);
        }
    }
    if (answers > 0) {
        engine->on_answers(engine, c, answers);
    }
}

static void feed_head(Engine *engine, Connection *c, const uint8_t *octets, size_t len)
{
    if (c->head == NULL) {
        c->head = malloc(MOST_HEAD_OCTETS);
    }
    size_t take = len < MOST_HEAD_OCTETS - c->head_len ? len : MOST_HEAD_OCTETS - c->head_len;
    memcpy(c->head + c->head_len, octets, take);
    size_t before = c->head_len;
    c->head_len += (unsigned)take;
    size_t end = upgrade_response(engine->options, c->serial, c->head, c->head_len);
    if (end == 0) {
        return;
    }
    free(c->head);
    c->head = NULL;
    c->state = STATE_OPEN;
    engine->opening--;
    engine->open++;
    if (len > end - before) {
        /* No answer is due: these octets are a ping, or a mistake. */
        feed_frames(engine, c, octets + (end - before), len - (end - before));
    }
    engine->on_open(engine, c);
}

static void ended(Engine *engine, Connection *c, ssize_t how)
{
    if (c->state != STATE_OPEN || !c->close_sent) {
        fail("the server %s a connection%s", how == IO_END ? "dropped" : "reset",
             c->state != STATE_OPEN ? " in its opening handshake" : "");
    }
    engine->on_close(engine, c);
}

static void receive(Engine *engine, Connection *c)
{
    ssize_t got;
    do {
        got = transport_receive(&c->transport, receive_buffer, RECEIVE_ROOM);
        if (got == IO_AGAIN) {
            return;
        }
        if (got <= 0) {
            ended(engine, c, got);
            return;
        }
        engine->now = engine_clock();
        if (c->state == STATE_OPEN) {
            feed_frames(engine, c, receive_buffer, (size_t)got);
        } else {
            feed_head(engine, c, receive_buffer, (size_t)got);
        }
    } while (c->state != STATE_CLOSED && (got == RECEIVE_ROOM || transport_has_buffered(&c->transport)));
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static void continue_opening(Engine *engine, Connection *c)
{
    int secured = transport_handshake(&c->transport);
    if (secured == IO_AGAIN) {
        return;
    }
    if (secured != 1) {
        fail("the TLS handshake failed");
    }
    char request[1024];
    struct iovec piece = {request, upgrade_request(engine->options, c->serial, request, sizeof request)};
    ssize_t sent = transport_send(&c->transport, &piece, 1);
    if (sent == IO_AGAIN) {
        return; /* not connected yet: epoll reports it */
    }
    if (sent != (ssize_t)piece.iov_len) {
        fail("can't send the opening handshake: is the server there?");
    }
    c->state = STATE_UPGRADING;
}

void connection_begin(Engine *engine, Connection *c, unsigned first)
{
    const Options *o = engine->options;
    unsigned entry = engine->script.steady > 0 ? 0 : first % engine->script.count;
    *c = (Connection){.state = STATE_CONNECTING,
                      .stays = c->stays,
                      .serial = engine->serial++,
                      .out_entry = entry,
                      .answers.entry = entry,
                      .opening_since = engine_clock()};
    c->asked_at = calloc(o->in_flight, sizeof *c->asked_at);
    c->transport = transport_open(o->host, o->port, c->serial, o->tls);
    engine->opening++;
    if (!o->tls) {
        continue_opening(engine, c); /* on loopback the connection is mostly complete by now */
    }
    tell_epoll(engine, c, EPOLL_CTL_ADD, c->state == STATE_CONNECTING);
}

static void check_connected(const Connection *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(c->transport.fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error != 0) {
        fail("connect: %s", strerror(error));
    }
}

static void serve(Engine *engine, Connection *c, uint32_t events)
{
    if (c->state == STATE_CONNECTING) {
        check_connected(c);
        if (c->wants_write) {
            tell_epoll(engine, c, EPOLL_CTL_MOD, false);
        }
        continue_opening(engine, c);
        return;
    }
    if ((events & EPOLLOUT) != 0) {
        flush(engine, c);
    }
    if ((events & ~(uint32_t)EPOLLOUT) != 0) {
        receive(engine, c);
    }
}

static void serve_ready(Engine *engine, int epoll, int most, int milliseconds)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(epoll, events, most, milliseconds);
    for (int i = 0; i < count; i++) {
        Connection *c = events[i].data.ptr;
        if (c->state != STATE_CLOSED) {
            serve(engine, c, events[i].events);
        }
    }
}

/* An answer waits in its socket while the generator serves other connections, and so seems late. Those of the
 * connections that stay wait for a few others at most, and never for a time-out. */
void engine_turn(Engine *engine, int milliseconds)
{
    if (engine->first_epoll < 0) {
        serve_ready(engine, engine->epoll, EVENTS_PER_TURN, milliseconds);
    } else {
        serve_ready(engine, engine->first_epoll, EVENTS_PER_TURN, 0);
        serve_ready(engine, engine->epoll, EVENTS_BETWEEN_FIRST, 0);
    }
}
