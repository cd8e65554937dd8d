"""The bytes of a shard, decompressed on the way: bounded memory, and no silence about a file that ends too soon.

What the store or the disk fails to deliver is a `StorageError`: the same read may work a minute later. What was
delivered but makes no sense is `StreamBroken`: it never will.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol

from ipt_stream import storage
from ipt_stream.errors import InputError, StorageError

READ_BYTES = 2**20
SLICE_BYTES = (2**6, 2**11)  # least and most compressed bytes decoded at once; zstd can make 64 MiB of the most
EXPANDED_BYTES = 2**20  # what a slice should expand to at most; where one gives more, the next ones are shorter
BLOCK_BYTES = 8 * 2**20  # one request to an object store, where a file is read through; s3fs would hold 50 MiB
HEAD_BLOCK_BYTES = 2**18  # the same, where only the head of a file is looked at
MAX_ZSTD_WINDOW_BYTES = 2**31  # files written with `zstd --long=31` need it

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BOM = b"\xef\xbb\xbf"


class StreamBroken(InputError):
    """Bytes that can't be decompressed; `byte` is how many bytes of the file were read before it showed."""

    def __init__(self, cause: str, byte: int) -> None:
        self.cause, self.byte = cause, byte
        super().__init__(f"broken at byte {byte}", got=cause)

    def __reduce__(self) -> tuple[object, ...]:
        return (StreamBroken, (self.cause, self.byte))


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: Any, /) -> bytes: ...


class StorageFile:
    """A file to read bytes from whose failures are all `StorageError`, even where pyarrow does the reading."""

    __slots__ = ("_file", "_path")

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._file, self._path = file, path

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes from here. Raises `StorageError`."""
        try:
            return self._file.read(size)
        except Exception as error:  # an object store's driver raises its transport's errors too: all end as one kind
            raise StorageError(f"can't read {self._path}", got=f"{type(error).__name__}: {error}") from error

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to `offset`, as files do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next read starts."""
        return self._file.tell()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is not."""
        return False


@contextmanager
def open_shard(path: str, block_bytes: int | None = BLOCK_BYTES) -> Iterator[StorageFile]:
    """The raw bytes of the file at `path`.

    Args:
        path: local, or a URL.
        block_bytes: how much of an object is asked for at once; None asks for what each read wants and no more, for a
            reader that jumps about and has buffers of its own.

    Raises:
        StorageError: it can't be opened.
    """
    if not storage.is_remote(path):
        with storage.open_read(path) as file:
            yield StorageFile(file, path)
        return
    fs, inner = storage.filesystem(path)
    ahead = {"cache_type": "none"} if block_bytes is None else {"block_size": block_bytes}
    try:
        remote = fs.open(inner, "rb", **ahead)
    except OSError as error:
        raise StorageError(f"can't open {path}", got=str(error)) from error
    with remote:
        yield StorageFile(remote, path)


def chunks(path: str, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The content of the file at `path` in order, gzip (several members too) or zstd (several frames too) undone.

    Holds one read of the file and what one slice of it expands to, whatever the file's size. `block_bytes` is how much
    of an object is asked for at once: little, where only its head is wanted.

    Raises:
        StorageError: the file can't be opened or read.
        StreamBroken: the compressed bytes are corrupt or end too soon; all that could be decoded came before.
    """
    read_bytes = min(READ_BYTES, block_bytes)
    with open_shard(path, block_bytes) as file:
        head = file.read(read_bytes)
        new = _decompressor_for(path, head)
        if new is not None:
            yield from _decompress(file, head, read_bytes, *new)
            return
        while head:
            yield head
            head = file.read(read_bytes)


def _decompressor_for(path: str, head: bytes) -> tuple[Callable[[], _Decompressor], type[Exception]] | None:
    """How to undo the compression that `head` shows, and the error of that decoder; None where there is none."""
    if head.startswith(GZIP_MAGIC):
        return lambda: zlib.decompressobj(wbits=31), zlib.error
    if is_zstd(head):
        import zstandard

        context = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
        return context.decompressobj, zstandard.ZstdError
    if path.endswith((".gz", ".zst")) and not looks_like_text(head):
        raise StreamBroken("neither gzip nor zstd, nor text" if head else "an empty file", 0)
    return None


def is_zstd(head: bytes) -> bool:
    """Whether `head` starts a zstd frame, or a skippable one (pzstd and seekable files write those)."""
    return head.startswith(ZSTD_MAGIC) or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50)


def looks_like_text(head: bytes) -> bool:
    """Whether `head` starts as JSON or XML does."""
    return head.removeprefix(BOM).lstrip()[:1] in (b"{", b"<", b"[")


def _decompress(
    file: StorageFile, data: bytes, read_bytes: int, new: Callable[[], _Decompressor], decoder_error: type[Exception]
) -> Iterator[bytes]:
    """`data` and the rest of `file`, decompressed; a new decompressor for each member or frame."""
    current: _Decompressor | None = None
    read, step = 0, SLICE_BYTES[0]
    while data:
        at = 0
        while at < len(data):
            piece = data[at : at + step]
            at, read, expanded = at + len(piece), read + len(piece), 0
            while piece:
                if current is None:
                    piece = piece.lstrip(b"\0")  # tapes and some tools pad the end with zeros
                    if not piece:
                        break
                    current = new()
                try:
                    out = current.decompress(piece)
                except decoder_error as error:
                    raise StreamBroken(str(error), read) from error
                if out:
                    expanded += len(out)
                    yield out
                piece = current.unused_data if current.eof else b""
                current = None if current.eof else current
            step = max(step // 2, SLICE_BYTES[0]) if expanded > EXPANDED_BYTES else min(step * 2, SLICE_BYTES[1])
        data = file.read(read_bytes)
    if current is not None:
        raise StreamBroken("the compressed data ends in the middle", read)
