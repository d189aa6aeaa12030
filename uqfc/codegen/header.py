"""The C header that goes with an object file."""

from __future__ import annotations

import json
import re

from uqfc.codegen.entry_points import prefixed_symbols
from uqfc.errors import UqfcError
from uqfc_runtime.info import ABI_VERSION, TEAM_BYTES, ModelInfo, TensorInfo

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def check_prefix(prefix: str) -> str:
    """``prefix`` if it is a C identifier; else UqfcError."""
    if not _IDENTIFIER.fullmatch(prefix):
        raise UqfcError(f"symbol prefix '{prefix}' is not a C identifier, e.g. 'my_model'")
    return prefix


def default_prefix(name: str) -> str:
    """A C identifier made of a model's name."""
    identifier = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()[:48]
    return f"model_{identifier}" if not identifier or identifier[0].isdigit() else identifier


def header_text(info: ModelInfo, prefix: str) -> str:
    """The header for an object file whose symbols start with ``prefix``."""
    symbols = prefixed_symbols(check_prefix(prefix))
    macro = prefix.upper()
    sizes = "\n".join(
        f"#define {macro}_{kind}_{i}_BYTES {tensor.nbytes}"
        for kind, tensors in (("INPUT", info.inputs), ("OUTPUT", info.outputs))
        for i, tensor in enumerate(tensors)
    )
    return f"""\
/* {_comment(info.name)}, compiled by {_comment(info.producer)}. Generated: do not edit.
 *
 * Target {info.target.name}: needs {_features(info)}.
{_permission(info)} * The object calls nothing but memcpy, memmove and memset.
 *
{_tensors("inputs", info.inputs)}{_tensors("outputs", info.outputs)} */
#ifndef {macro}_H
#define {macro}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {macro}_INPUTS {len(info.inputs)}
#define {macro}_OUTPUTS {len(info.outputs)}
{sizes}

/* Scratch memory that the caller provides, one for each concurrent run. */
#define {macro}_ARENA_BYTES {info.arena_bytes}
#define {macro}_ARENA_ALIGNMENT {info.arena_alignment}

/* Most threads of one run; what they share: bytes, aligned to 64, zero before the first call. */
#define {macro}_THREADS {info.threads}
#define {macro}_SYNC_BYTES 64
#define {macro}_TEAM_BYTES {TEAM_BYTES}

/* The model info: JSON, NUL-terminated. */
const char *{symbols.info}(void);

/* The version of the ABI: {ABI_VERSION}. */
uint32_t {symbols.abi_version}(void);

/* Runs the model once. Inputs and outputs are dense, row-major, aligned to their elements, and do
 * not overlap. Re-entrant. Returns 0, or -1 if the arena is not aligned. */
int32_t {symbols.run}(const void *const *inputs, void *const *outputs, void *arena);

/* One run by `parts` threads of the caller's, each with its own `part` of 0 to parts - 1, at the
 * same time and with the same arguments otherwise. Returns when the run is complete: 0, or -1 if
 * arena or sync are not aligned, -2 if there is no such part. */
int32_t {symbols.run_part}(const void *const *inputs, void *const *outputs, void *arena,
    void *sync, int32_t part, int32_t parts);

/* A team: threads of the caller's call work, with a `part` from 1 on, and wait there for runs;
 * run_team is a run with them, as part 0; end_team makes them return. See uqf.h. */
int32_t {symbols.work}(void *team, int32_t part, int32_t parts);
int32_t {symbols.run_team}(const void *const *inputs, void *const *outputs, void *arena,
    void *team, int32_t parts);
int32_t {symbols.end_team}(void *team);

#ifdef __cplusplus
}}
#endif

#endif /* {macro}_H */
"""


def _permission(info: ModelInfo) -> str:
    if info.target.isa != "amx":
        return ""
    return """\
 * Linux must let the process use AMX before the model runs for the first time: see
 * uqf_request_amx in uqf.h, arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
"""


def _features(info: ModelInfo) -> str:
    names = " ".join(info.target.cpu_features)
    return _comment(f"the CPU features {names}") if names else "no CPU feature beyond the baseline"


def _tensors(kind: str, tensors: tuple[TensorInfo, ...]) -> str:
    return "".join(
        f" * {kind}[{i}] {_comment(json.dumps(t.name))}: {t.dtype.name} {list(t.shape)}\n"
        for i, t in enumerate(tensors)
    )


def _comment(text: str) -> str:
    """``text`` in one line of ASCII that cannot end a C comment or start one."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in text)
    return printable.replace("*/", "*|").replace("/*", "|*").replace("??", "?")
