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
    /* What comes from a peer goes into a JSON string: keep it printable and free of quotes. */
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
