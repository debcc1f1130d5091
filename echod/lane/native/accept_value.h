/*
 * The key of an opening handshake, and the value that answers it (RFC 6455 section 4.2.2, item 5.4).
 *
 * Knows SHA-1 (RFC 3174) and base64 (RFC 4648) as far as this value needs them. Must never know a request head.
 *
 * SHA-1 is written here and not taken from OpenSSL: a Python may have OpenSSL built in without its SHA-1 in sight, and there
 * the value would need a second way. What is hashed always has 60 bytes, so that there are just two blocks.
 */
#ifndef ECHOD_ACCEPT_VALUE_H
#define ECHOD_ACCEPT_VALUE_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

enum {
    ECHOD_HANDSHAKE_KEY = 24, /* characters of a key: 16 bytes in base64 */
    ECHOD_ACCEPT_VALUE = 28,  /* characters of the value that answers it: 20 bytes in base64 */
};

/* Whether octets[0, size) is a key, as http/upgrade.py judges. */
int echod_is_key(const uint8_t *octets, size_t size);

/* Write the value of Sec-WebSocket-Accept for a key: ECHOD_ACCEPT_VALUE characters for ECHOD_HANDSHAKE_KEY characters. */
void echod_accept_value(const uint8_t *key, uint8_t *value);

/* cffi: end */

#endif
