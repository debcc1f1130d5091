/*
 * Control frames (RFC 6455 section 5.5) that are served without Autobahn: pings and pongs.
 *
 * Knows what these two frames look like, and that a pong has the payload of its ping. Must never know a socket, nor what
 * stands around the frame. A Close frame and a faulty control frame are Autobahn's.
 */
#ifndef ECHOD_CONTROL_H
#define ECHOD_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    ECHOD_CONTROL_WHOLE,   /* the frame is served */
    ECHOD_CONTROL_PARTIAL, /* the frame is right as far as it is there */
    ECHOD_CONTROL_ODD,     /* the frame is Autobahn's to judge */
} echod_control_state;

typedef struct {
    size_t frame_size;  /* bytes of the client's frame */
    size_t answer_size; /* bytes of the answer, less than those of the frame. 0: a pong gets none */
} echod_control;

/* Whether a ping or a pong that is served begins with octets[0, size), size > 0. */
bool echod_control_begins(const uint8_t *octets, size_t size);

/* Serve the frame at frame[0, size), size > 0. Its answer is written to `answer`, which is the frame itself, or lies before
   it. Nothing changes, unless the frame is whole. */
echod_control_state echod_control_serve(echod_control *it, uint8_t *answer, const uint8_t *frame, size_t size);

#endif
