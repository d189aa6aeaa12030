/* The C ABI of a model compiled by uqfc, version 2.
 *
 * A shared object (model.so) exports the functions below. An object file (model.o) exports
 * the same with a prefix of its own, declared in the header that was written beside it, so
 * that several models can be linked into one program.
 *
 * The code is freestanding: it allocates nothing, keeps no state and calls nothing (but waiting
 * threads, on Linux on x86-64, make the system calls futex and sched_yield). Weights are read-only
 * data. It assumes the default floating-point environment (round to nearest, denormals
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

#define UQF_ABI_VERSION 2u

/* Alignment of the arena, of sync and of a team, in bytes. */
#define UQF_ARENA_ALIGNMENT 64

/* Sizes of what the threads of a run share. It must be zero before the first call. */
#define UQF_SYNC_BYTES 64
#define UQF_TEAM_BYTES 256

/* Results. */
#define UQF_OK 0
#define UQF_ERROR_ALIGNMENT (-1)
#define UQF_ERROR_PARTS (-2)
#define UQF_ERROR_BUSY (-3)

/* What the model says about itself: a JSON object, NUL-terminated, valid forever. Fields:
 *   abi            the version of this ABI
 *   producer, name
 *   target         {name, triple, isa, cpu_features: [names as in /proc/cpuinfo]}
 *   inputs         [{name, dtype, shape}] in the order of `inputs` below
 *   outputs        [{name, dtype, shape}] in the order of `outputs` below
 *   arena          {bytes, alignment}
 *   weights_bytes  size of the packed weights
 *   threads        most threads of one run
 *   quant_strategy
 *   layers         [{name, op, weight_dtype, activation_dtype, kernel, requested, chosen, reason}]
 *   verification   {seed, outputs: {name: SHA-256}}: see uqfc_runtime/verification.py
 *   uqr            the quantization semantics
 * A dtype is one of float32, uint8, int8, int32, int64, bool (one byte, 0 or 1). */
const char *uqf_model_info(void);

/* The UQF_ABI_VERSION that the model was compiled for. Check it before calling uqf_model_run. */
uint32_t uqf_abi_version(void);

/* Runs the model once, on this thread.
 *
 * inputs[i]   input number i: dense, row-major, aligned to its element; only read
 * outputs[i]  output number i: the same; written entirely; overlaps no input and no other output
 * arena       scratch of `arena.bytes` bytes aligned to UQF_ARENA_ALIGNMENT, contents arbitrary
 *             before and after; may be NULL if `arena.bytes` is 0
 *
 * Re-entrant: concurrent calls need only different arenas and different outputs. Returns UQF_OK,
 * or UQF_ERROR_ALIGNMENT without having touched anything. */
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

/* Runs the model once on several threads of the caller's.
 *
 * Each of `parts` threads (1 to `threads` of the model info) calls this at the same time, with its
 * own `part` of 0 to parts - 1 and the same other arguments. Each computes its share of every
 * kernel; between kernels they wait for each other, polling, so there should be a core for each.
 * A call returns when the whole run is complete, the others then no longer touch inputs, outputs
 * or arena, but may still look at sync. Results are the same for any number of parts.
 *
 * sync    UQF_SYNC_BYTES, aligned to UQF_ARENA_ALIGNMENT, zero before the first call and then left
 *         alone; one for each concurrent run. May be NULL if parts is 1.
 *
 * Returns UQF_OK; or UQF_ERROR_ALIGNMENT or UQF_ERROR_PARTS without having touched anything. */
int32_t uqf_model_run_part(const void *const *inputs, void *const *outputs, void *arena,
                           void *sync, int32_t part, int32_t parts);

/* A team keeps threads of the caller's ready, so that the next run starts them in microseconds.
 *
 * parts - 1 threads call uqf_model_work, with a `part` of 1 to parts - 1 each. They wait there, at
 * first polling, then asleep, and take part in every run of the team, until it ends.
 *
 * uqf_model_run_team runs the model once with them, as part 0 (with the same `parts`). It may be
 * called by many threads: while the team is busy, or once it has ended, the caller runs alone.
 *
 * uqf_model_end_team makes the workers return; UQF_ERROR_BUSY if the team is in a run. Join them
 * before the team's memory is freed or the model unloaded.
 *
 * team    UQF_TEAM_BYTES, aligned to UQF_ARENA_ALIGNMENT, zero before the first call */
int32_t uqf_model_work(void *team, int32_t part, int32_t parts);
int32_t uqf_model_run_team(const void *const *inputs, void *const *outputs, void *arena,
                           void *team, int32_t parts);
int32_t uqf_model_end_team(void *team);

#ifdef __cplusplus
}
#endif

#endif /* UQF_H */
