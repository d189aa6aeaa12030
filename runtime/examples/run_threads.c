/* Runs a model on zeros on two threads of its own and compares the bytes of the outputs with those
 * of one thread:
 *
 *     cc -pthread -DMODEL_HEADER='"toy.h"' -DMODEL=toy -DMODEL_MACRO=TOY run_threads.c toy.o
 *
 * The model, here with one input and one output, was compiled with `--threads 2`. Two ways are
 * shown: threads that call the model together, and a team that waits for runs.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include MODEL_HEADER

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define FUNCTION(name) JOIN(MODEL, name)
#define SIZE(name) JOIN(MODEL_MACRO, name)

#define PARTS 2
#define RUNS 100

static uint8_t *input, *output, *arena, *sync_memory, *team;

static void *zeros(size_t bytes) {
    size_t rounded = (bytes / 64 + 1) * 64;
    void *memory = aligned_alloc(64, rounded);
    if (memory == NULL) {
        abort();
    }
    return memset(memory, 0, rounded);
}

static void check(int32_t status) {
    if (status != 0) {
        fprintf(stderr, "run_threads: status %d\n", (int)status);
        exit(EXIT_FAILURE);
    }
}

/* One of the threads that run the model together; the argument is the number of its part. */
static void *run_part(void *part) {
    const void *inputs[] = {input};
    void *outputs[] = {output};
    for (int i = 0; i < RUNS; i++) {
        check(FUNCTION(_run_part)(inputs, outputs, arena, sync_memory, (int32_t)(intptr_t)part,
                                  PARTS));
    }
    return NULL;
}

/* A worker of the team. */
static void *work(void *part) {
    check(FUNCTION(_work)(team, (int32_t)(intptr_t)part, PARTS));
    return NULL;
}

static void compare(const char *what, const uint8_t *expected) {
    if (memcmp(output, expected, SIZE(_OUTPUT_0_BYTES)) != 0) {
        fprintf(stderr, "run_threads: %s: other bytes than on one thread\n", what);
        exit(EXIT_FAILURE);
    }
    memset(output, 0x55, SIZE(_OUTPUT_0_BYTES));
    printf("%s: same bytes\n", what);
}

int main(void) {
    input = zeros(SIZE(_INPUT_0_BYTES));
    output = zeros(SIZE(_OUTPUT_0_BYTES));
    arena = zeros(SIZE(_ARENA_BYTES));
    sync_memory = zeros(SIZE(_SYNC_BYTES));
    team = zeros(SIZE(_TEAM_BYTES));
    uint8_t *expected = zeros(SIZE(_OUTPUT_0_BYTES));
    const void *inputs[] = {input};
    void *outputs[] = {expected};
    check(FUNCTION(_run)(inputs, outputs, arena));

    pthread_t other;
    pthread_create(&other, NULL, run_part, (void *)1);
    run_part((void *)0);
    pthread_join(other, NULL);
    compare("parts", expected);

    outputs[0] = output;
    pthread_create(&other, NULL, work, (void *)1);
    for (int i = 0; i < RUNS; i++) {
        check(FUNCTION(_run_team)(inputs, outputs, arena, team, PARTS));
    }
    check(FUNCTION(_end_team)(team));
    pthread_join(other, NULL);
    compare("team", expected);
    return EXIT_SUCCESS;
}
