/* The C ABI of a model compiled by uqfc, version 1.
 *
 * A shared object (model.so) exports the three functions below. An object file (model.o) exports
 * the same three with a prefix of its own, declared in the header that was written beside it, so
 * that several models can be linked into one program.
 *
 * The code is freestanding: it allocates nothing, keeps no state and calls nothing. Weights are
 * read-only data. It assumes the default floating-point environment (round to nearest, denormals
 * kept), and CPU features that it does not check: compare `target.cpu_features` of the model info
 * with the CPU first. The Python package uqfc_runtime does that, and checks the file's hash.
 * Where they include "amx_tile", call uqf_request_amx() once before the first uqf_model_run.
 */
#ifndef UQF_H
#define UQF_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UQF_ABI_VERSION 1u

/* Alignment of the arena, in bytes. */
#define UQF_ARENA_ALIGNMENT 64

/* Results of uqf_model_run. */
#define UQF_OK 0
#define UQF_ERROR_ARENA_ALIGNMENT (-1)

/* What the model says about itself: a JSON object, NUL-terminated, valid forever. Fields:
 *   abi            the version of this ABI
 *   producer, name
 *   target         {name, triple, isa, cpu_features: [names as in /proc/cpuinfo]}
 *   inputs         [{name, dtype, shape}] in the order of `inputs` below
 *   outputs        [{name, dtype, shape}] in the order of `outputs` below
 *   arena          {bytes, alignment}
 *   weights_bytes  size of the packed weights
 *   quant_strategy
 *   layers         [{name, op, weight_dtype, activation_dtype, kernel, requested, chosen, reason}]
 *   verification   {seed, outputs: {name: SHA-256}}: see uqfc_runtime/verification.py
 *   uqr            the quantization semantics
 * A dtype is one of float32, uint8, int8, int32, int64, bool (one byte, 0 or 1). */
const char *uqf_model_info(void);

/* The UQF_ABI_VERSION that the model was compiled for. Check it before calling uqf_model_run. */
uint32_t uqf_abi_version(void);

/* Runs the model once.
 *
 * inputs[i]   input number i: dense, row-major, aligned to its element; only read
 * outputs[i]  output number i: the same; written entirely; overlaps no input and no other output
 * arena       scratch of `arena.bytes` bytes aligned to UQF_ARENA_ALIGNMENT, contents arbitrary
 *             before and after; may be NULL if `arena.bytes` is 0
 *
 * Re-entrant: concurrent calls need only different arenas and different outputs. Returns UQF_OK,
 * or UQF_ERROR_ARENA_ALIGNMENT without having touched anything. */
int32_t uqf_model_run(const void *const *inputs, void *const *outputs, void *arena);

#if defined(__linux__) && defined(__x86_64__) && defined(__GNUC__)
/* Asks Linux to let this process, with all its threads, use AMX: arch_prctl(ARCH_REQ_XCOMP_PERM,
 * XTILEDATA). Returns 0, or a negative errno where the CPU or the kernel has no AMX; a model that
 * needs it then ends the process with SIGILL. */
static inline long uqf_request_amx(void) {
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(158L), "D"(0x1023L), "S"(18L)
                     : "rcx", "r11", "memory");
    return result;
}
#endif

#ifdef __cplusplus
}
#endif

#endif /* UQF_H */
