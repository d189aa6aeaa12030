/* Executes AMX-INT8 instructions on a CPU without AMX: for tests only, x86-64 Linux.
 *
 * Such a CPU raises an invalid-opcode exception, which arrives here as SIGILL. The handler decodes
 * the instruction, does what the Intel SDM (volume 2, "Intel AMX instruction set reference") says,
 * and continues after it, so that a test runs the very machine code that a CPU with AMX would.
 *
 * What would be a fault there ends the process here with a message: a palette other than 1, shapes
 * that do not fit, tiles that are not configured, instructions that are not AMX-INT8.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64, THREADS = 256 };

/* Numbers of executed instructions, in the order of `amx_emulator_counts`. */
enum { CONFIGURE, RELEASE, ZERO, LOAD, STORE, DOT, KINDS };

typedef struct {
    int configured;
    uint8_t rows[TILES];
    uint16_t row_bytes[TILES];
    uint8_t data[TILES][ROWS][ROW_BYTES];
} State;

typedef struct {
    int prefix, opcode, mod, reg, rm, vvvv, length;
    uint64_t address, stride;
} Instruction;

static State states[THREADS];
static int threads;
static __thread State *mine __attribute__((tls_model("initial-exec")));
static long long counts[KINDS];

static void fail(const char *what, const uint8_t *code) {
    char text[256];
    int size = snprintf(text, sizeof text, "AMX emulator: %s at %p:", what, (const void *)code);
    for (int i = 0; i < 9; i++)
        size += snprintf(text + size, sizeof text - size, " %02x", code[i]);
    text[size++] = '\n';
    (void)!write(2, text, size);
    _exit(132);
}

static void require(int condition, const char *what, const uint8_t *code) {
    if (!condition)
        fail(what, code);
}

static uint64_t general_register(const ucontext_t *context, int number) {
    static const int places[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15};
    return (uint64_t)context->uc_mcontext.gregs[places[number]];
}

/* VEX.128.pp.0F38.W0 opcode ModRM [SIB] [displacement]; `stride` is the index times its scale. */
static Instruction decode(const ucontext_t *context, const uint8_t *code) {
    Instruction it = {0};
    require(code[0] == 0xC4, "not a three-byte VEX instruction", code);
    require((code[1] & 0x1F) == 2, "not in opcode map 0F38", code);
    require((code[2] & 0x84) == 0, "VEX.W or VEX.L is set", code);
    int extend_reg = !(code[1] & 0x80), extend_index = !(code[1] & 0x40);
    int extend_base = !(code[1] & 0x20);
    it.prefix = code[2] & 3;
    it.vvvv = ~(code[2] >> 3) & 15;
    it.opcode = code[3];
    it.mod = code[4] >> 6;
    it.reg = ((code[4] >> 3) & 7) | extend_reg << 3;
    it.rm = (code[4] & 7) | extend_base << 3;
    it.length = 5;
    if (it.mod == 3)
        return it;
    const uint8_t *next = code + 5;
    int base = it.rm, has_base = 1;
    if ((it.rm & 7) == 4) {
        int sib = *next++;
        int index = ((sib >> 3) & 7) | extend_index << 3;
        base = (sib & 7) | extend_base << 3;
        has_base = !((base & 7) == 5 && it.mod == 0);
        if (index != 4)
            it.stride = general_register(context, index) << (sib >> 6);
    } else {
        require(it.opcode == 0x49, "memory operand without a SIB byte", code);
        require(!(it.mod == 0 && (it.rm & 7) == 5), "address relative to RIP", code);
    }
    int32_t displacement = 0;
    if (it.mod == 1)
        displacement = (int8_t)*next++;
    else if (it.mod == 2 || !has_base) {
        memcpy(&displacement, next, 4);
        next += 4;
    }
    it.address = (has_base ? general_register(context, base) : 0) + (int64_t)displacement;
    it.length = (int)(next - code);
    return it;
}

static void configure(State *state, const uint8_t *config, const uint8_t *code) {
    memset(state, 0, sizeof *state);
    require(config[0] == 1, "palette is not 1", code);
    require(config[1] == 0, "start row is not 0", code);
    for (int i = 2; i < 64; i++) {
        int used = (i >= 16 && i < 32) || (i >= 48 && i < 56);
        require(used || config[i] == 0, "reserved byte of the configuration is not 0", code);
    }
    for (int tile = 0; tile < TILES; tile++) {
        memcpy(&state->row_bytes[tile], config + 16 + 2 * tile, 2);
        state->rows[tile] = config[48 + tile];
        require(state->row_bytes[tile] <= ROW_BYTES, "a row has more than 64 bytes", code);
        require(state->rows[tile] <= ROWS, "a tile has more than 16 rows", code);
        require(!state->row_bytes[tile] == !state->rows[tile], "half a shape", code);
    }
    state->configured = 1;
}

static void check_tile(const State *state, int tile, const uint8_t *code) {
    require(state->configured, "no tile configuration is loaded", code);
    require(tile < TILES, "no such tile", code);
    require(state->rows[tile] != 0, "tile is not configured", code);
}

static void move(State *state, const Instruction *it, const uint8_t *code) {
    check_tile(state, it->reg, code);
    require(it->vvvv == 0, "VEX.vvvv is used", code);
    size_t size = state->row_bytes[it->reg];
    int load = it->prefix == 3 || it->prefix == 1;
    require(load || it->prefix == 2, "not a tile load or store", code);
    uint8_t(*tile)[ROW_BYTES] = state->data[it->reg];
    if (load)
        memset(tile, 0, ROWS * ROW_BYTES);
    for (int row = 0; row < state->rows[it->reg]; row++) {
        uint8_t *memory = (uint8_t *)(it->address + row * it->stride);
        memcpy(load ? tile[row] : memory, load ? memory : tile[row], size);
    }
    __atomic_add_fetch(&counts[load ? LOAD : STORE], 1, __ATOMIC_RELAXED);
}

/* c[m][n] += sum over k, t of a[m][4 k + t] * b[k][4 n + t]. Prefix: NP u*u, 66 u*s, F3 s*u, F2 s*s. */
static void dot(State *state, const Instruction *it, const uint8_t *code) {
    int c = it->reg, a = it->rm, b = it->vvvv;
    check_tile(state, c, code);
    check_tile(state, a, code);
    check_tile(state, b, code);
    require(c != a && c != b && a != b, "a tile is used twice", code);
    int rows = state->rows[c], row_bytes = state->row_bytes[c], steps = state->rows[b];
    require(row_bytes % 4 == 0 && state->row_bytes[a] % 4 == 0, "row is no multiple of 4", code);
    require(rows == state->rows[a], "rows of the sums and of A differ", code);
    require(row_bytes == state->row_bytes[b], "columns of the sums and of B differ", code);
    require(state->row_bytes[a] == 4 * steps, "columns of A are not the rows of B", code);
    int signed_a = it->prefix >= 2, signed_b = it->prefix & 1;
    for (int m = 0; m < rows; m++) {
        int32_t sums[ROWS];
        memcpy(sums, state->data[c][m], sizeof sums);
        for (int k = 0; k < steps; k++)
            for (int t = 0; t < 4; t++) {
                uint8_t x = state->data[a][m][4 * k + t];
                int32_t factor = signed_a ? (int8_t)x : x;
                for (int n = 0; n < row_bytes / 4; n++) {
                    uint8_t w = state->data[b][k][4 * n + t];
                    sums[n] = (int32_t)((uint32_t)sums[n] +
                                        (uint32_t)(factor * (signed_b ? (int8_t)w : w)));
                }
            }
        memcpy(state->data[c][m], sums, (size_t)row_bytes);
    }
    __atomic_add_fetch(&counts[DOT], 1, __ATOMIC_RELAXED);
}

static void execute(State *state, const Instruction *it, const uint8_t *code) {
    if (it->opcode == 0x4B && it->mod != 3) {
        move(state, it, code);
    } else if (it->opcode == 0x5E && it->mod == 3) {
        dot(state, it, code);
    } else if (it->opcode == 0x49 && it->prefix == 0 && it->mod != 3 && it->reg == 0) {
        configure(state, (const uint8_t *)it->address, code);
        __atomic_add_fetch(&counts[CONFIGURE], 1, __ATOMIC_RELAXED);
    } else if (it->opcode == 0x49 && it->prefix == 0 && it->mod == 3 && it->reg == 0) {
        memset(state, 0, sizeof *state);
        __atomic_add_fetch(&counts[RELEASE], 1, __ATOMIC_RELAXED);
    } else if (it->opcode == 0x49 && it->prefix == 3 && it->mod == 3 && it->rm == 0) {
        check_tile(state, it->reg, code);
        memset(state->data[it->reg], 0, ROWS * ROW_BYTES);
        __atomic_add_fetch(&counts[ZERO], 1, __ATOMIC_RELAXED);
    } else {
        fail("not an instruction of AMX-INT8", code);
    }
}

static int is_amx(const uint8_t *code) {
    if (code[0] != 0xC4 || (code[1] & 0x1F) != 2)
        return 0;
    return code[3] == 0x49 || code[3] == 0x4B || code[3] == 0x5E;
}

static void on_invalid_opcode(int number, siginfo_t *info, void *opaque) {
    (void)number;
    (void)info;
    ucontext_t *context = opaque;
    const uint8_t *code = (const uint8_t *)context->uc_mcontext.gregs[REG_RIP];
    if (!mine) {
        int index = __atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED);
        require(index < THREADS, "too many threads", code);
        mine = &states[index];
    }
    do { /* what follows is often one, too: that saves a signal */
        Instruction it = decode(context, code);
        execute(mine, &it, code);
        code += it.length;
    } while (is_amx(code));
    context->uc_mcontext.gregs[REG_RIP] = (greg_t)code;
}

/* Installs the handler; returns 0 on success. */
int amx_emulator_install(void) {
    struct sigaction action = {0};
    action.sa_sigaction = on_invalid_opcode;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    return sigaction(SIGILL, &action, NULL);
}

/* Copies the numbers of instructions since the last call: configure, release, zero, load, store,
 * dot. */
void amx_emulator_counts(long long *result) {
    for (int i = 0; i < KINDS; i++)
        result[i] = __atomic_exchange_n(&counts[i], 0, __ATOMIC_RELAXED);
}
