/* Messages that are put together. See gather.h. */
#include "gather.h"

#include <assert.h>
#include <string.h>

bool echod_gather_is_first(uint8_t octet, bool takes_deflated)
{
    uint8_t opcode = octet & OPCODE;
    if (opcode != OPCODE_TEXT && opcode != OPCODE_BINARY)
        return false;
    return (octet & ~OPCODE) == 0 || (takes_deflated && (octet & ~(FIN | OPCODE)) == RSV1);
}

/* Behind its first byte any header is like that of an ordinary frame. */
static echod_stop read_any_header(const uint8_t *octets, size_t len, uint64_t max_size, frame_header *header)
{
    uint8_t like_ordinary[CLIENT_HEADER];
    memcpy(like_ordinary, octets, len < CLIENT_HEADER ? len : CLIENT_HEADER);
    like_ordinary[0] = FIN | OPCODE_BINARY;
    return read_header(like_ordinary, len, max_size, header).stop;
}

size_t echod_gather_whole(echod_large *frame, const uint8_t *octets, size_t len, uint64_t max_size)
{
    frame_header header;
    bool is_final = (octets[0] & FIN) != 0;
    if (!is_final || read_any_header(octets, len, max_size, &header) != ECHOD_STOP_BOUNDARY)
        return 0;
    if (len - header.size < header.length)
        return 0;
    *frame = (echod_large){.length = header.length, .key = header.key, .opcode = octets[0] & (RSV1 | OPCODE)};
    return header.size;
}

bool echod_gather_is_deflated(const echod_gather *it)
{
    return (it->kind & RSV1) != 0;
}

uint8_t echod_gather_opcode(const echod_gather *it)
{
    return it->kind & OPCODE;
}

bool echod_gather_is_within_frame(const echod_gather *it)
{
    return it->header_size != 0;
}

void echod_gather_begin(echod_gather *it, uint8_t octet, uint64_t max_size, uint32_t max_fragments)
{
    uint8_t kind = octet & (RSV1 | OPCODE);
    *it = (echod_gather){
        /* A deflated text is checked as UTF-8 when it is inflated. */
        .frame = {.utf8 = ECHOD_UTF8_ACCEPT, .opcode = kind == OPCODE_TEXT ? OPCODE_TEXT : OPCODE_BINARY},
        .kind = kind,
        .max_size = max_size,
        .max_fragments = max_fragments,
    };
}

/* Take bytes of a header. False: the owner has to judge the frame, and none of these bytes is taken. */
static bool take_header(echod_gather *it, const uint8_t *source, size_t len, size_t *at)
{
    assert(it->header_size < CLIENT_HEADER);
    size_t room = CLIENT_HEADER - it->header_size, size = len - *at < room ? len - *at : room;
    memcpy(it->header + it->header_size, source + *at, size);
    uint8_t first = it->header[0] & (uint8_t)~FIN; /* 0: a continuation */
    if (first != (it->fragments ? 0 : it->kind) || it->fragments >= it->max_fragments)
        return false;
    frame_header header;
    switch (read_any_header(it->header, it->header_size + size, it->max_size - it->whole, &header)) {
    case ECHOD_STOP_BOUNDARY:
        *at += header.size - it->header_size;
        it->header_size = header.size;
        it->is_in_payload = true;
        it->frame.length = header.length;
        it->frame.key = header.key;
        it->frame.done = 0;
        return true;
    case ECHOD_STOP_NEED_MORE:
        *at += size;
        it->header_size += (uint8_t)size;
        return true;
    default:
        return false;
    }
}

echod_gather_state echod_gather_feed(echod_gather *it, uint8_t *payload, const uint8_t *source, size_t len, size_t *at)
{
    for (;;) {
        if (!it->is_in_payload) {
            if (*at == len)
                return ECHOD_GATHER_OPEN;
            if (!take_header(it, source, len, at))
                return ECHOD_GATHER_ODD;
            if (!it->is_in_payload)
                return ECHOD_GATHER_OPEN;
        }
        uint64_t before = it->frame.done;
        echod_large_feed(&it->frame, payload + it->whole + before, source + *at, len - *at);
        *at += (size_t)(it->frame.done - before);
        bool is_last = (it->header[0] & FIN) != 0;
        if (it->frame.utf8 == ECHOD_UTF8_REJECT)
            return ECHOD_GATHER_ODD;
        if (it->frame.done < it->frame.length)
            return ECHOD_GATHER_OPEN;
        if (is_last)
            return it->frame.utf8 == ECHOD_UTF8_ACCEPT ? ECHOD_GATHER_COMPLETE : ECHOD_GATHER_ODD;
        it->whole += it->frame.length;
        it->fragments++;
        it->frame.length = it->frame.done = 0;
        it->header_size = 0;
        it->is_in_payload = false;
    }
}

size_t echod_gather_size(const echod_gather *it)
{
    return (size_t)(it->whole + it->frame.done);
}

uint8_t *echod_gather_restore(const echod_gather *it, uint8_t *payload)
{
    size_t whole = (size_t)it->whole;
    /* The current frame's header goes between the payload of the whole frames, which moves forward, and its own
       payload. */
    uint8_t *begin = payload - it->header_size, *current = payload + whole;
    memmove(begin, payload, whole);
    memcpy(current - it->header_size, it->header, it->header_size);
    echod_unmask(current, current, (size_t)it->frame.done, it->frame.key);
    if (!it->fragments)
        return begin;
    uint8_t header[CLIENT_HEADER];
    size_t header_size = write_client_header(header, it->kind, it->whole, 0); /* a key of zeros changes nothing */
    header[0] &= (uint8_t)~FIN; /* the current frame follows */
    return memcpy(begin - header_size, header, header_size);
}
