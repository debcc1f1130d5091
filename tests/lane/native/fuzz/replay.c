/*
 * Runs a fuzz target once over each file that is named: for compilers without libFuzzer, and for other processors.
 *
 * Knows files. Must never know what is in them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    enum { LARGEST = 1 << 22 };
    FILE *file = fopen(path, "rb");
    uint8_t *octets = malloc(LARGEST);
    if (!file || !octets)
        return -1;
    size_t size = fread(octets, 1, LARGEST, file);
    fclose(file);
    LLVMFuzzerTestOneInput(octets, size);
    free(octets);
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (replay(argv[i]) != 0) {
            perror(argv[i]);
            return 1;
        }
    }
    printf("%d inputs", argc - 1);
    const char *kernel;
    for (size_t i = 0; (kernel = echod_codec_isa_name(i)) != NULL; i++)
        if (echod_codec_isa_usable(kernel))
            printf(" %s", kernel);
    printf("\n");
    return 0;
}
