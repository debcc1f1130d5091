/* permessage-deflate (RFC 7692) as the load generator needs it: messages made once, answers inflated and compared.
 *
 * Knows: raw DEFLATE, zlib, the four octets that section 7.2.1 takes off. Must never know: frames, sockets.
 * Built without WITH_DEFLATE it can only refuse, so that a plain build needs no zlib.
 */
#ifndef LOAD_DEFLATE_H
#define LOAD_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DEFLATE_WINDOW = 32768 };

/* Compresses one message; with `fresh` nothing of the messages before is referred to. Returns octets written to *packed (malloc'd). */
size_t deflate_message(const uint8_t *plain, size_t plain_len, bool fresh, uint8_t **packed);

/* Whether the octets inflate, after this history, to exactly this message. */
bool deflate_is_message(const uint8_t *packed, size_t packed_len, const uint8_t *history, size_t history_len, const uint8_t *plain,
                        size_t plain_len);

#endif
