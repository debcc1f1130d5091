/* The opening handshake (RFC 6455 section 4), from the client's side.
 *
 * Knows: the request, what its response must say. Must never know: sockets, frames.
 */
#ifndef LOAD_UPGRADE_H
#define LOAD_UPGRADE_H

#include "options.h"

#include <stddef.h>
#include <stdint.h>

enum { MOST_HEAD_OCTETS = 4096 };

size_t upgrade_request(const Options *options, char *into, size_t room);

/* The length of the response's head, or 0 while it is incomplete. A response that is not what was asked for ends the program. */
size_t upgrade_response(const Options *options, const uint8_t *octets, size_t len);

#endif
