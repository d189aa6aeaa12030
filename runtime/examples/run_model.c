/* Runs a model once on zeros and prints what it says about itself and the bytes of its outputs.
 *
 * With a shared object, whose sizes are given on the command line (they are in the model info):
 *
 *     cc -I../include run_model.c -ldl -o run_model
 *     ./run_model ./model.so ARENA_BYTES INPUT_BYTES[,INPUT_BYTES...] OUTPUT_BYTES[,...]
 *
 * With an object file and its header, whose sizes are macros (here for a prefix `toy`, with two
 * inputs and two outputs):
 *
 *     cc -DMODEL_HEADER='"toy.h"' -DMODEL=toy -DMODEL_MACRO=TOY run_model.c toy.o -o run_model
 *     ./run_model
 *
 * A program that does not trust the file, or the CPU, checks both first: see uqf.h.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TENSORS 16

typedef int32_t run_function(const void *const *inputs, void *const *outputs, void *arena);

static int fail(const char *what) {
    fprintf(stderr, "run_model: %s\n", what);
    return EXIT_FAILURE;
}

/* Zeroed memory for each size; NULL where memory ran out. */
static void *zeros(size_t bytes) {
    size_t rounded = (bytes / 64 + 1) * 64;
    void *memory = aligned_alloc(64, rounded);
    if (memory != NULL) {
        memset(memory, 0, rounded);
    }
    return memory;
}

static int run(const char *info, run_function *function, size_t arena_bytes,
               size_t inputs, const size_t *input_bytes,
               size_t outputs, const size_t *output_bytes) {
    const void *input[MAX_TENSORS] = {0};
    void *output[MAX_TENSORS] = {0};
    void *arena = zeros(arena_bytes);
    if (arena == NULL) {
        return fail("out of memory");
    }
    for (size_t i = 0; i < inputs; i++) {
        if ((input[i] = zeros(input_bytes[i])) == NULL) {
            return fail("out of memory");
        }
    }
    for (size_t i = 0; i < outputs; i++) {
        if ((output[i] = zeros(output_bytes[i])) == NULL) {
            return fail("out of memory");
        }
    }
    printf("%s\n", info);
    if (function(input, output, arena) != 0) {
        return fail("the model refused to run");
    }
    for (size_t i = 0; i < outputs; i++) {
        printf("output %zu:", i);
        for (size_t j = 0; j < output_bytes[i]; j++) {
            printf(" %02x", ((const uint8_t *)output[i])[j]);
        }
        printf("\n");
    }
    return EXIT_SUCCESS;
}

#ifdef MODEL_HEADER

#include MODEL_HEADER

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

int main(void) {
    const size_t input_bytes[] = {JOIN(MODEL_MACRO, _INPUT_0_BYTES),
                                  JOIN(MODEL_MACRO, _INPUT_1_BYTES)};
    const size_t output_bytes[] = {JOIN(MODEL_MACRO, _OUTPUT_0_BYTES),
                                   JOIN(MODEL_MACRO, _OUTPUT_1_BYTES)};
    return run(JOIN(MODEL, _info)(), JOIN(MODEL, _run), JOIN(MODEL_MACRO, _ARENA_BYTES),
               2, input_bytes, 2, output_bytes);
}

#else

#include <dlfcn.h>

#include "uqf.h"

/* Reads "12,34" into sizes; returns how many there are. */
static size_t parse_sizes(const char *text, size_t *sizes) {
    size_t count = 0;
    while (*text != '\0' && count < MAX_TENSORS) {
        char *end = NULL;
        sizes[count++] = strtoull(text, &end, 10);
        text = *end == ',' ? end + 1 : end + strlen(end);
    }
    return count;
}

int main(int argc, char **argv) {
    size_t input_bytes[MAX_TENSORS], output_bytes[MAX_TENSORS];
    if (argc != 5) {
        return fail("usage: run_model MODEL.so ARENA_BYTES INPUT_BYTES,... OUTPUT_BYTES,...");
    }
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return fail(dlerror());
    }
    const char *(*info)(void);
    uint32_t (*abi_version)(void);
    run_function *function;
    *(void **)&info = dlsym(library, "uqf_model_info");
    *(void **)&abi_version = dlsym(library, "uqf_abi_version");
    *(void **)&function = dlsym(library, "uqf_model_run");
    if (info == NULL || abi_version == NULL || function == NULL) {
        return fail("not a uqfc model");
    }
    if (abi_version() != UQF_ABI_VERSION) {
        return fail("the model was compiled for another version of the ABI");
    }
#if defined(__linux__) && defined(__x86_64__) && defined(__GNUC__)
    if (strstr(info(), "\"amx_tile\"") != NULL && uqf_request_amx() != 0) {
        return fail("the system does not let this process use AMX");
    }
#endif
    size_t inputs = parse_sizes(argv[3], input_bytes);
    size_t outputs = parse_sizes(argv[4], output_bytes);
    return run(info(), function, strtoull(argv[2], NULL, 10), inputs, input_bytes, outputs,
               output_bytes);
}

#endif
