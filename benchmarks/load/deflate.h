/* permessage-deflate (RFC 7692) for the load generator: compresses messages once, and inflates and compares answers.
 *
 * Knows: raw DEFLATE, zlib, the four octets that section 7.2.1 removes. Must never know: frames, sockets.
 * Without WITH_DEFLATE every function fails, so that a plain build needs no zlib.
 */
#ifndef LOAD_DEFLATE_H
#define LOAD_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DEFLATE_WINDOW = 32768 };

/* Compresses one message into *packed, which is malloc'd, and returns its size. With `fresh` it refers to no earlier
 * message. */
size_t deflate_message(const uint8_t *plain, size_t plain_len, bool fresh, uint8_t **packed);

/* Tells whether the octets, after this history, inflate to exactly this message. */
bool deflate_is_message(const uint8_t *packed, size_t packed_len, const uint8_t *history, size_t history_len,
                        const uint8_t *plain, size_t plain_len);

#endif
