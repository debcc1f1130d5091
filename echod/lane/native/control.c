/* Pings and pongs. See control.h. */
#include "control.h"

#include "codec.h"
#include "frame.h"
#include "sizes.h"

/* The state of a frame, as far as it is there, and its size, if that is known. */
static echod_control_state judge(const uint8_t *octets, size_t size, size_t *frame_size)
{
    if (octets[0] != (FIN | OPCODE_PING) && octets[0] != (FIN | OPCODE_PONG))
        return ECHOD_CONTROL_ODD;
    if (size < 2)
        return ECHOD_CONTROL_PARTIAL;
    uint8_t length = octets[1] ^ MASK;
    if (length > CONTROL_SIZE)
        return ECHOD_CONTROL_ODD; /* too long, or not masked */
    *frame_size = 2 + KEY_SIZE + length;
    return size < *frame_size ? ECHOD_CONTROL_PARTIAL : ECHOD_CONTROL_WHOLE;
}

bool echod_control_begins(const uint8_t *octets, size_t size)
{
    size_t frame_size;
    return judge(octets, size, &frame_size) != ECHOD_CONTROL_ODD;
}

echod_control_state echod_control_serve(echod_control *it, uint8_t *answer, const uint8_t *frame, size_t size)
{
    echod_control_state state = judge(frame, size, &it->frame_size);
    if (state != ECHOD_CONTROL_WHOLE)
        return state;
    it->answer_size = 0;
    if (frame[0] == (FIN | OPCODE_PING)) {
        size_t length = it->frame_size - 2 - KEY_SIZE;
        uint32_t key = load_32(frame + 2); /* before the answer overwrites it */
        size_t header_size = write_header(answer, OPCODE_PONG, length, 0);
        echod_unmask(answer + header_size, frame + 2 + KEY_SIZE, length, key);
        it->answer_size = header_size + length;
    }
    return state;
}
