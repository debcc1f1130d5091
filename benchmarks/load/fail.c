/* How the load generator stops. See fail.h. */
#include "fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void fail(const char *format, ...)
{
    char reason[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    /* The text may come from a peer, and goes into a JSON string: keep it printable and without quotes. */
    for (char *c = reason; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            *c = '\'';
        } else if (*c < ' ' || *c > '~') {
            *c = '.';
        }
    }
    printf("{\"error\": \"%s\"}\n", reason);
    exit(1);
}
