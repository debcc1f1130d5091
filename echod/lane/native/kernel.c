/* The choice of a kernel (kernel.h). Knows the processor. Must never know what a kernel is used for. */
#include <string.h>

#include "codec.h"
#include "kernel.h"

const echod_kernel *echod_kernel_chosen = &echod_kernel_scalar;

typedef struct {
    const echod_kernel *kernel;
    int usable;
} candidate;

/* From the plainest to the best. */
static candidate candidate_at(size_t index)
{
    switch (index) {
    case 0:
        return (candidate){&echod_kernel_scalar, 1};
#if defined(__x86_64__)
    case 1:
        return (candidate){&echod_kernel_ssse3, !!__builtin_cpu_supports("ssse3")};
    case 2:
        return (candidate){&echod_kernel_avx2, !!__builtin_cpu_supports("avx2")};
#elif defined(__aarch64__)
    case 1:
        return (candidate){&echod_kernel_neon, 1}; /* Advanced SIMD is part of every AArch64 that runs Linux */
#endif
    default:
        return (candidate){NULL, 0};
    }
}

static const echod_kernel *best(void)
{
    const echod_kernel *found = NULL;
    candidate it;
    for (size_t i = 0; (it = candidate_at(i)).kernel; i++)
        if (it.usable)
            found = it.kernel;
    return found;
}

static const echod_kernel *named(const char *name)
{
    candidate it;
    for (size_t i = 0; (it = candidate_at(i)).kernel; i++)
        if (it.usable && strcmp(it.kernel->name, name) == 0)
            return it.kernel;
    return NULL;
}

/* This runs before anything can be called, so that no call has to ask, and no two threads choose at once. */
__attribute__((constructor)) static void choose(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    echod_kernel_chosen = best();
}

const char *echod_codec_isa_name(size_t index)
{
    const echod_kernel *kernel = candidate_at(index).kernel;
    return kernel ? kernel->name : NULL;
}

int echod_codec_isa_usable(const char *name)
{
    return named(name) != NULL;
}

int echod_codec_set_isa(const char *name)
{
    const echod_kernel *kernel = name ? named(name) : best();
    if (!kernel)
        return -1;
    echod_kernel_chosen = kernel;
    return 0;
}

const char *echod_codec_isa(void)
{
    return echod_kernel_chosen->name;
}
