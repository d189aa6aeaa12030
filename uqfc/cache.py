"""A bounded cache on disk, addressed by content, that any number of processes share.

An entry is a file named by its key, a SHA-256 of all that its value depends on; it starts with the
SHA-256 of key and value, so that what is damaged, cut short or misplaced is a miss. Entries are
written beside their place and renamed. Whatever goes wrong with the disk costs the entry and
nothing else: there is no error, only no cache.

What the cache holds is executed. The directory must belong to this user and nobody else may write
to it; all access goes through its descriptor, which was checked when it was opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

DIRECTORY_VARIABLE = "UQFC_CACHE_DIR"
LIMIT = 512 << 20
"""Bytes that the entries may take together."""

_DIGEST_BYTES = hashlib.sha256().digest_size
_SUFFIX = ".uqfc"
_SHARE = 16
"""The directory is looked over when so small a share of its limit has been written since."""


class Usage(NamedTuple):
    """Of a cache: how many entries, and their bytes."""

    entries: int
    size: int


class _Entry(NamedTuple):
    used: int
    size: int
    name: str


def default_directory() -> Path | None:
    """``$UQFC_CACHE_DIR`` (None if it is empty), else ``uqfc`` in the user's cache directory."""
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not Path(base).is_absolute():  # the XDG specification says to ignore such values
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # a user without a home directory
            return None
    return Path(base) / "uqfc"


def key_of(parts: Iterable[bytes | str]) -> str:
    """The SHA-256 of the parts and of where each ends, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def encode_result(document: Mapping[str, Any], blobs: Iterable[bytes]) -> bytes:
    """A JSON document and blobs, as one."""
    parts = list(blobs)
    head = json.dumps({"document": document, "sizes": [len(p) for p in parts]}).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *parts])


def decode_result(content: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The inverse of ``encode_result``."""
    start = 8 + int.from_bytes(content[:8], "little")
    head: dict[str, Any] = json.loads(content[8:start])
    blobs: list[bytes] = []
    for size in head["sizes"]:
        blobs.append(content[start : start + size])
        start += size
    return head["document"], blobs


@dataclass
class Cache:
    """Entries in ``directory``; without one, or where it is not safe to use, all are misses."""

    directory: Path | None = field(default_factory=default_directory)
    limit: int = LIMIT
    _unseen: int | None = field(default=None, init=False, repr=False)
    """Bytes written since the directory was last looked over."""

    def get(self, key: str) -> bytes | None:
        """The value, or None. Using an entry keeps it from being the next to go."""
        with suppress(OSError), self._opened() as folder:
            if folder is None:
                return None
            descriptor = os.open(key + _SUFFIX, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                content = file.read()
                if content[:_DIGEST_BYTES] == _checksum(key, content[_DIGEST_BYTES:]):
                    with suppress(OSError):
                        os.utime(descriptor)
                    return content[_DIGEST_BYTES:]
        return None

    def put(self, key: str, value: bytes) -> None:
        """Store a value, replacing what is there."""
        with suppress(OSError), self._opened(create=True) as folder:
            if folder is None or len(value) > self.limit // _SHARE:
                return
            temporary = f"{uuid4().hex}.new"
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
                    file.write(_checksum(key, value))
                    file.write(value)
                os.replace(temporary, key + _SUFFIX, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(temporary, dir_fd=folder)
                raise
            if self._unseen is None or self._unseen > self.limit // _SHARE:
                _shrink(folder, self.limit - self.limit // _SHARE)
                self._unseen = 0
            self._unseen += len(value)

    def usage(self) -> Usage:
        """What the entries take now."""
        with suppress(OSError), self._opened() as folder:
            if folder is not None:
                entries = list(_entries(folder))
                return Usage(len(entries), sum(e.size for e in entries))
        return Usage(0, 0)

    def clear(self) -> None:
        """Remove all entries."""
        with suppress(OSError), self._opened() as folder:
            if folder is not None:
                _shrink(folder, 0)

    @contextmanager
    def _opened(self, create: bool = False) -> Generator[int | None]:
        """A descriptor of the directory; None where there is none that is safe to use."""
        if self.directory is None or os.open not in os.supports_dir_fd:
            yield None
            return
        if create:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            status = os.fstat(folder)
            others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            yield None if others_write or status.st_uid != os.geteuid() else folder
        finally:
            os.close(folder)


def _checksum(key: str, value: bytes) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(value)
    return digest.digest()


def _entries(folder: int) -> Iterator[_Entry]:
    """Files in the directory, also those that a process left behind when it died."""
    with os.scandir(folder) as listing:
        for entry in listing:
            with suppress(OSError):  # another process may have removed it
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield _Entry(status.st_mtime_ns, status.st_size, entry.name)


def _shrink(folder: int, limit: int) -> None:
    """Remove the files that were not used for the longest time, until ``limit`` is kept."""
    entries = sorted(_entries(folder))
    size = sum(entry.size for entry in entries)
    for entry in entries:
        if size <= limit:
            return
        with suppress(OSError):
            os.unlink(entry.name, dir_fd=folder)
        size -= entry.size
