/*
 * Heads that are remembered and looked for: the input is steps, each of a kind (1 octet), a size (2) and as many octets. The kind's low two bits:
 * remember the octets as a head, look for them, look for them and refer to the verdict, or forget all. The next bit: there is no memory.
 *
 * The oracle keeps each head that was remembered, with what may differ taken out octet by octet. What is found has to be the one with the
 * same rest, and its answer has to be the one that was remembered, but for the accept value.
 *
 * This file is compiled with verdicts.c in it, for its allocations.
 */
#include "oracle.h"

static int is_out_of_memory;

static void *verdicts_malloc(size_t size)
{
    return is_out_of_memory ? NULL : malloc(size);
}

#define malloc verdicts_malloc
#include "verdicts.c"
#undef malloc

enum { MOST_STEPS = 200, LONGEST = 3000 };

_Static_assert((int)MOST_STEPS < (int)MOST_VERDICTS, "the oracle forgets nothing by itself");

static const char JUDGED[] = "host upgrade x";
static const char KEPT[] = "kept";

typedef struct {
    uint8_t *rest;
    size_t size;
    size_t number;
} remembered;

static int is_word(const uint8_t *octets, size_t size, const char *word)
{
    size_t i = 0;
    for (; i < size && word[i]; i++)
        if (octets[i] != (uint8_t)word[i] && !(word[i] >= 'a' && word[i] <= 'z' && octets[i] == (uint8_t)(word[i] - 'a' + 'A')))
            return 0;
    return i == size && !word[i];
}

static int is_any_value(const uint8_t *octets, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((octets[i] < 32 && octets[i] != 9) || octets[i] == 127)
            return 0;
    return 1;
}

/* What is left of one header line; -1: there can't be a verdict. */
static long rest_of_line(const uint8_t *line, size_t size, uint8_t *rest, int *keys, int *kept)
{
    size_t name = 0, left;
    while (name < size && line[name] != ':')
        name++;
    if (name == size || is_word(line, name, "host") || is_word(line, name, "upgrade") || is_word(line, name, "x")) {
        memcpy(rest, line, size);
        return (long)size;
    }
    memcpy(rest, line, name + 1);
    left = name + 1;
    if (!is_any_value(line + left, size - left))
        return -1;
    if (is_word(line, name, KEPT)) {
        if (size - left > KEPT_SIZE)
            return -1;
        *kept += 1;
    }
    if (is_word(line, name, "sec-websocket-key")) {
        while (left < size && (line[left] == 9 || line[left] == 32))
            left++;
        while (left < size && (line[size - 1] == 9 || line[size - 1] == 32))
            size--;
        if (!echod_is_key(line + left, size - left))
            return -1;
        *keys += 1;
    }
    return (long)name + 1;
}

/* What is left of the head at octets[0, size), and how long the head is; 0: there can't be a verdict. */
static size_t rest_of(const uint8_t *octets, size_t size, uint8_t *rest, size_t *head_size)
{
    size_t at = 0, done = 0;
    int keys = 0, kept = 0;
    for (int number = 0;; number++) {
        size_t end = at;
        while (end < size && octets[end] != '\n')
            end++;
        if (end == size || end == at || octets[end - 1] != '\r')
            return 0;
        size_t line = end - 1 - at;
        if (number && !line) {
            *head_size = end + 1;
            return *head_size <= LONGEST && done <= BRIEF_SIZE && keys == 1 && kept < 2 ? done : 0;
        }
        long left = (long)line;
        if (number)
            left = rest_of_line(octets + at, line, rest + done, &keys, &kept);
        else
            memcpy(rest, octets + at, line);
        if (left < 0)
            return 0;
        done += (size_t)left;
        rest[done++] = '\n';
        at = end + 1;
    }
}

static size_t make_answer(size_t number, const uint8_t *key, uint8_t *answer)
{
    size_t size = (size_t)sprintf((char *)answer, "%zu ", number);
    echod_accept_value(key, answer + size);
    answer[size + ECHOD_ACCEPT_VALUE] = 'e';
    return size + ECHOD_ACCEPT_VALUE + 1;
}

static const remembered *known(const remembered *all, size_t count, const uint8_t *rest, size_t size)
{
    for (size_t i = 0; i < count; i++)
        if (all[i].size == size && memcmp(all[i].rest, rest, size) == 0)
            return &all[i];
    return NULL;
}

/* What was found has the answer that was remembered, and its head says the same. */
static void judge_found(echod_verdicts *verdicts, echod_verdict *verdict, const remembered *right, const echod_head *head)
{
    uint8_t expected[100];
    size_t size = make_answer(right->number, head->key, expected);
    CHECK(echod_verdict_answer(verdict, head->key, NULL) == size);
    uint8_t *answer = malloc(size);
    CHECK(answer && echod_verdict_answer(verdict, head->key, answer) == size && memcmp(answer, expected, size) == 0);
    free(answer);
    size = echod_verdict_head(verdict, head->key, head->kept, head->kept_size, NULL);
    uint8_t *restored = malloc(size);
    CHECK(restored && echod_verdict_head(verdict, head->key, head->kept, head->kept_size, restored) == size);
    echod_head again;
    if (size <= LONGEST) {
        CHECK(echod_verdicts_find(verdicts, restored, size, &again) == verdict && again.size == size);
        CHECK(memcmp(again.key, head->key, ECHOD_HANDSHAKE_KEY) == 0 && again.kept_size == head->kept_size);
        CHECK(!head->kept == !again.kept && (!head->kept || memcmp(again.kept, head->kept, head->kept_size) == 0));
    }
    free(restored);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t rest[1 << 17];
    remembered all[MOST_STEPS];
    echod_verdict *referred[MOST_STEPS];
    size_t count = 0, references = 0, steps = 0;
    echod_verdicts *verdicts = echod_verdicts_new(JUDGED, KEPT, LONGEST);
    CHECK(verdicts != NULL);
    const uint8_t *at = data, *end = data + size;
    for (; end - at > 3 && steps < MOST_STEPS; steps++) {
        size_t len = (size_t)at[1] << 8 | at[2];
        if (len > (size_t)(end - at - 3))
            len = (size_t)(end - at - 3);
        uint8_t kind = at[0], *octets = exact(at + 3, len);
        at += 3 + len;
        size_t head_size = 0, rest_size = rest_of(octets, len, rest, &head_size);
        const remembered *right = rest_size ? known(all, count, rest, rest_size) : NULL;
        echod_head head;
        is_out_of_memory = kind >> 2 & 1;
        if ((kind & 3) == 0) {
            uint8_t made[100];
            size_t made_size = 0;
            reading it;
            if (read_head(verdicts, octets, len, &it, &head))
                made_size = make_answer(steps, head.key, made);
            uint8_t *answer = exact(made, made_size);
            int is_taken = echod_verdicts_remember(verdicts, octets, len, answer, made_size, NULL);
            CHECK(is_taken == (rest_size && head_size == len && (right || !is_out_of_memory)));
            free(answer);
            if (is_taken && !right)
                all[count++] = (remembered){exact(rest, rest_size), rest_size, steps};
            CHECK(echod_verdicts_count(verdicts) == count);
        } else if ((kind & 3) == 3) {
            echod_verdicts_clear(verdicts);
            while (count)
                free(all[--count].rest);
            CHECK(references || !echod_verdicts_held(verdicts));
        } else {
            echod_verdict *verdict = echod_verdicts_find(verdicts, octets, len, &head);
            CHECK(!verdict == !right);
            if (verdict) {
                CHECK(head.size == head_size);
                judge_found(verdicts, verdict, right, &head);
                if ((kind & 3) == 2)
                    echod_verdict_refer(referred[references++] = verdict);
            }
        }
        free(octets);
    }
    is_out_of_memory = 0;
    while (references)
        echod_verdict_release(verdicts, referred[--references]);
    while (count)
        free(all[--count].rest);
    echod_verdicts_free(verdicts);
    return 0;
}
