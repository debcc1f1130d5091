/* The table of utf8.h. Knows only RFC 3629 section 4, line by line. */
#include "utf8.h"

#define GO(from, to) ((uint64_t)(to) << (from))

/* UTF8-tail = %x80-BF, in three parts, because some lines of the grammar allow only some of them as the second byte. */
#define ANY_TAIL (GO(UTF8_TAIL_1, UTF8_ACCEPT) | GO(UTF8_TAIL_2, UTF8_TAIL_1) | GO(UTF8_TAIL_3, UTF8_TAIL_2))

/* An entry that is not written leads to UTF8_REJECT, which is 0. UTF8_REJECT leads to itself. */
const uint64_t echod_utf8_rows[256] = {
    /* UTF8-1 = %x00-7F */
    [0x00 ... 0x7F] = GO(UTF8_ACCEPT, UTF8_ACCEPT),
    /* UTF8-3 = ... / %xED %x80-9F UTF8-tail, UTF8-4 = ... / %xF4 %x80-8F 2( UTF8-tail ) */
    [0x80 ... 0x8F] = ANY_TAIL | GO(UTF8_AFTER_ED, UTF8_TAIL_1) | GO(UTF8_AFTER_F4, UTF8_TAIL_2),
    /* UTF8-3 as above, UTF8-4 = %xF0 %x90-BF 2( UTF8-tail ) / ... */
    [0x90 ... 0x9F] = ANY_TAIL | GO(UTF8_AFTER_ED, UTF8_TAIL_1) | GO(UTF8_AFTER_F0, UTF8_TAIL_2),
    /* UTF8-3 = %xE0 %xA0-BF UTF8-tail / ..., UTF8-4 as above */
    [0xA0 ... 0xBF] = ANY_TAIL | GO(UTF8_AFTER_E0, UTF8_TAIL_1) | GO(UTF8_AFTER_F0, UTF8_TAIL_2),
    /* UTF8-2 = %xC2-DF UTF8-tail */
    [0xC2 ... 0xDF] = GO(UTF8_ACCEPT, UTF8_TAIL_1),
    /* UTF8-3 = %xE0 %xA0-BF UTF8-tail / %xE1-EC 2( UTF8-tail ) / %xED %x80-9F UTF8-tail / %xEE-EF 2( UTF8-tail ) */
    [0xE0] = GO(UTF8_ACCEPT, UTF8_AFTER_E0),
    [0xE1 ... 0xEC] = GO(UTF8_ACCEPT, UTF8_TAIL_2),
    [0xED] = GO(UTF8_ACCEPT, UTF8_AFTER_ED),
    [0xEE ... 0xEF] = GO(UTF8_ACCEPT, UTF8_TAIL_2),
    /* UTF8-4 = %xF0 %x90-BF 2( UTF8-tail ) / %xF1-F3 3( UTF8-tail ) / %xF4 %x80-8F 2( UTF8-tail ) */
    [0xF0] = GO(UTF8_ACCEPT, UTF8_AFTER_F0),
    [0xF1 ... 0xF3] = GO(UTF8_ACCEPT, UTF8_TAIL_3),
    [0xF4] = GO(UTF8_ACCEPT, UTF8_AFTER_F4),
};
