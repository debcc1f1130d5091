/* How the load generator stops: one JSON line with the fault, exit status 1.
 *
 * Knows: only its message. Must never know: how to continue. A wrong octet makes all figures of the run worthless.
 */
#ifndef LOAD_FAIL_H
#define LOAD_FAIL_H

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
