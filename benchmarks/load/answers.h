/* Reads what the server sends on one connection, and compares every octet of it with the script.
 *
 * Knows: RFC 6455 section 5, the script, compressed answers. Must never know: sockets, time, what the caller does next.
 */
#ifndef LOAD_ANSWERS_H
#define LOAD_ANSWERS_H

#include "script.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { EVENT_NONE, EVENT_MESSAGE, EVENT_PING, EVENT_PONG, EVENT_CLOSE } Event;

typedef struct {
    unsigned entry; /* the message that must be answered next */
    bool in_frame;
    bool in_message;
    bool packed; /* the message is compressed (RSV1 on its first frame) */
    uint8_t first; /* FIN, RSV1-3 and opcode of the frame */
    uint8_t head[10];
    uint8_t head_len;
    uint8_t control_len;
    uint8_t control[MOST_CONTROL_OCTETS];
    uint64_t remaining; /* octets of the frame's payload still to come */
    size_t at; /* octets of the message so far: compared, or gathered if compressed */
    uint8_t *gathered;
    size_t gathered_room;
} Answers;

/* Takes octets up to the end of one frame, and returns their number. *event is what they completed. A mistake ends the
 * program. */
size_t answers_feed(Answers *answers, const Script *script, bool deflate, const uint8_t *octets, size_t len,
                    Event *event);

void answers_free(Answers *answers);

#endif
