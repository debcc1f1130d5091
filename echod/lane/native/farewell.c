/* The reply to a Close frame. See farewell.h. */
#include "farewell.h"

#include <stdbool.h>

#include "frame.h"
#include "sizes.h"
#include "unmask.h"
#include "utf8.h"

enum { HEADER = 2, CODE_SIZE = 2 };

/* Section 7.4, and the registered codes. */
static bool is_code(unsigned code)
{
    bool is_private = code >= 3000 && code <= 4999;
    return is_private || (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006);
}

size_t echod_farewell(const uint8_t *octets, size_t size, uint8_t *reply, uint16_t *code)
{
    if (size < HEADER + KEY_SIZE || octets[0] != (FIN | OPCODE_CLOSE) || !(octets[1] & MASK))
        return 0;
    size_t length = octets[1] & (uint8_t)~MASK;
    if (length > CONTROL_SIZE || length == 1 || size < HEADER + KEY_SIZE + length)
        return 0;
    uint8_t *payload = reply + HEADER;
    reply[0] = FIN | OPCODE_CLOSE;
    reply[1] = (uint8_t)length;
    *code = ECHOD_NO_CODE;
    if (!length)
        return HEADER;
    echod_unmask(payload, octets + HEADER + KEY_SIZE, length, load_32(octets + HEADER));
    *code = (uint16_t)(payload[0] << 8 | payload[1]);
    uint32_t text = echod_utf8(ECHOD_UTF8_ACCEPT, payload + CODE_SIZE, length - CODE_SIZE);
    return is_code(*code) && text == ECHOD_UTF8_ACCEPT ? HEADER + length : 0;
}
