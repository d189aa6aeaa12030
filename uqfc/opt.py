"""``uqfc-opt``: ``xdsl-opt`` with uqfc's dialects and passes.

What the user got wrong (the input, a pass's name or options) is one line on stderr and exit code
2; a traceback is always a defect of a pass.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import IO

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass, PassPipeline
from xdsl.printer import Printer
from xdsl.utils.exceptions import ArgSpecParseError, ParseError, VerifyException
from xdsl.xdsl_opt_main import xDSLOptMain

from uqfc.errors import UqfcError
from uqfc.universe import UQFC_UNIVERSE

__all__ = ["UqfcOptMain", "main"]


class UqfcOptMain(xDSLOptMain):
    """The stock driver; our universe is added whether or not the package is installed."""

    def __init__(self, args: Sequence[str] | None = None) -> None:
        super().__init__("uqfc's modular optimizer driver", args)

    def register_all_dialects(self) -> None:
        super().register_all_dialects()
        for name, factory in UQFC_UNIVERSE.all_dialects.items():
            if name not in self.ctx.registered_dialect_names:
                self.ctx.register_dialect(name, factory)

    def register_all_passes(self) -> None:
        super().register_all_passes()
        for name, factory in UQFC_UNIVERSE.all_passes.items():
            self.register_pass(name, factory)

    def register_all_arguments(self, arg_parser: argparse.ArgumentParser) -> None:
        super().register_all_arguments(arg_parser)
        arg_parser.add_argument(
            "--print-ir-after-all",
            default=False,
            action="store_true",
            help="Print the IR after each pass to stderr",
        )
        arg_parser.add_argument(
            "--pass-pipeline", dest="passes", help="The same as --passes", default=""
        )

    def get_input_stream(self) -> tuple[IO[bytes], str]:
        """The whole input, so that no file stays open after an error."""
        if self.args.input_file is None:
            return super().get_input_stream()
        path = Path(self.args.input_file)
        return BytesIO(path.read_bytes()), path.suffix.removeprefix(".")

    def prepare_input(self) -> tuple[list[tuple[IO[bytes], int]], str]:
        try:
            return super().prepare_input()
        except ValueError as error:
            raise UqfcError(f"{self.get_input_name()}: {error}") from error

    def setup_pipeline(self) -> None:
        try:
            super().setup_pipeline()
        except (ValueError, ArgSpecParseError) as error:
            raise UqfcError(f"--passes: {error}") from error
        checked = self.pipeline.callback

        def callback(before: ModulePass | None, module: ModuleOp, after: ModulePass | None) -> None:
            if before is not None and self.args.print_ir_after_all:
                print_ir(before.name, module, sys.stderr)
            if checked is not None:
                checked(before, module, after)

        self.pipeline = PassPipeline(self.pipeline.passes, callback)

    def parse_chunk(
        self, chunk: IO[bytes], file_extension: str, start_offset: int = 0
    ) -> ModuleOp | None:
        """The parsed and verified module; UqfcError if the input is not valid."""
        wanted_by_test = self.args.parsing_diagnostics or self.args.verify_diagnostics
        try:
            module = super().parse_chunk(chunk, file_extension, start_offset)
            if module is not None and not self.args.disable_verify:
                module.verify()
        except (ParseError, VerifyException) as error:
            if wanted_by_test:
                raise
            raise UqfcError(f"{self.get_input_name()}: {error}") from error
        return module


def print_ir(pass_name: str, module: ModuleOp, stream: IO[str]) -> None:
    """MLIR's banner, then the module."""
    stream.write(f"// -----// IR after {pass_name} //----- //\n")
    Printer(stream=stream).print_op(module)
    stream.write("\n")


def main(args: Sequence[str] | None = None) -> None:
    """Console entry point. Exits with 2 after a user's error."""
    try:
        UqfcOptMain(args).run()
    except (UqfcError, OSError) as error:
        sys.stderr.write(f"uqfc-opt: error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
