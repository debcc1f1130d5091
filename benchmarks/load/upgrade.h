/* The opening handshake (RFC 6455 section 4), from the client's side.
 *
 * Knows: the request, and the required response. Must never know: sockets, frames.
 */
#ifndef LOAD_UPGRADE_H
#define LOAD_UPGRADE_H

#include "options.h"

#include <stddef.h>
#include <stdint.h>

enum { MOST_HEAD_OCTETS = 4096 };

/* Writes the request of the connection with this number. Its key differs from that of the connection before. */
size_t upgrade_request(const Options *options, unsigned serial, char *into, size_t room);

/* Returns the length of the response's head, or 0 while it is incomplete. A wrong response ends the program. */
size_t upgrade_response(const Options *options, unsigned serial, const uint8_t *octets, size_t len);

#endif
