/*
 * A Close frame that is valid, and its reply (RFC 6455 section 5.5.1).
 *
 * Knows which codes and reasons Autobahn takes, and that the reply has the same payload. Must never know a socket. Any other
 * Close frame is Autobahn's.
 */
#ifndef ECHOD_FAREWELL_H
#define ECHOD_FAREWELL_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

enum {
    ECHOD_LARGEST_REPLY = 2 + 125, /* bytes */
    ECHOD_NO_CODE = 1005,          /* stands for the code of a Close frame without one (section 7.1.5) */
};

/* Write the reply to the Close frame that octets[0, size) begins with, and return its size. *code: the code of both. 0: what
   comes is no valid Close frame, or is not whole. */
size_t echod_farewell(const uint8_t *octets, size_t size, uint8_t *reply, uint16_t *code);

/* cffi: end */

#endif
