"""Writes files and folders that are whole or not there: under another name first, then renamed into place.

A link keeps pointing where it did and a file keeps its permissions. A pipe, a socket or a block device is never
replaced; a character device such as /dev/null is written to. Nothing is left behind on Ctrl-C.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from planner.errors import KvplanError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO


def write_bytes(path: str, data: bytes, option: str = "-o") -> None:
    """Replace the file `path` by `data`; on any failure the old file stays as it was."""
    write_with(path, lambda file: _all(file, data), option)


def write_with(path: str, write: Callable[[BinaryIO], None], option: str = "-o") -> None:
    """Replace the file `path` by what `write` puts into the open file that it is given.

    option  the flag that named the file, for messages
    Raises KvplanError for a folder, a pipe, a block device, no permission, a full disk.
    """
    target, mode = _target(path, option)
    try:
        if mode is None:
            with open(target, "wb") as device:
                write(device)
            return
        _replace(target, write, mode)
    except OSError as error:
        raise _unwritable(path, option, error) from None


def check_file(path: str | None, option: str = "-o") -> None:
    """Refuse a file that `write_with` could not replace, before minutes are spent on what goes into it.

    A file under another name is made beside it and removed: that alone tells what a system lets one write.
    Raises KvplanError as `write_with` does; None, where no file was named, passes.
    """
    if path is None:
        return
    target, mode = _target(path, option)
    if mode is None:
        return
    temporary = _beside(target)
    try:
        with open(temporary, "xb"):
            pass
        _remove(temporary)
    except OSError as error:
        raise _unwritable(path, option, error) from None


def make_parent(path: str, option: str = "-o") -> None:
    """Make the folder that the file `path` is to lie in, where it is not there.

    Raises KvplanError where the system does not let one.
    """
    try:
        os.makedirs(os.path.dirname(os.path.abspath(os.path.expanduser(path))), exist_ok=True)
    except (OSError, ValueError) as error:
        raise _unwritable(path, option, error) from None


def _unwritable(path: str, option: str, error: OSError | ValueError, *, kind: str = "file in a folder") -> KvplanError:
    why = getattr(error, "strerror", None) or error
    return KvplanError(f"{option} {one_line(path, 80)} cannot be written: {why}; choose a {kind} you may write to")


def _target(path: str, option: str) -> tuple[str, int | None]:
    """Return the file that `path` leads to and the permissions for it (None: a character device).

    Raises KvplanError for a folder, a name that no file has, a pipe, a block device.
    """
    shown = one_line(path, 80)
    if not path or path.endswith(os.sep) or os.path.isdir(path):
        raise KvplanError(
            f"{option} {shown or repr(path)} is not the name of a file; write for example {option} answer"
        )
    if "\0" in path:
        raise KvplanError(f"{option} {shown} holds a zero byte, which no file name does")
    target = os.path.realpath(os.path.expanduser(path))
    try:
        return target, _mode(target, f"{option} {shown}")
    except OSError as error:
        raise _unwritable(path, option, error) from None


def _all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _mode(path: str, shown: str) -> int | None:
    """Return the permissions for the file at `path`, its own or those of a new one; None for a character device."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0o666 & ~_umask()
    if stat.S_ISCHR(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        raise KvplanError(f"{shown} is a pipe or a device; name a file, or leave it out to print")
    return stat.S_IMODE(found.st_mode)


def _replace(target: str, write: Callable[[BinaryIO], None], mode: int) -> None:
    temporary = _beside(target)
    try:
        with open(temporary, "xb") as file:
            write(file)
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    finally:  # gone already where it was renamed
        _remove(temporary)


def _beside(target: str) -> str:
    """Return a name beside `target` that nothing has; it is known before anything is made, so it can be removed."""
    return os.path.join(os.path.dirname(target), f".kvplan-{os.getpid()}-{os.urandom(4).hex()}")


def _remove(path: str) -> None:
    import contextlib

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def replace_folder(path: str, files: Mapping[str, bytes], option: str = "-o") -> str:
    """Replace the folder `path` by one that holds `files`, by their paths inside it; return its full name.

    The files are written beside it. Where the system can exchange two names at once (Linux, macOS) there is no
    moment without a folder; elsewhere the old one is put aside first, and back if the move fails.
    """
    import shutil

    target = os.path.realpath(os.path.expanduser(path))
    fresh = _beside(target)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        for name, data in sorted(files.items()):
            inside = os.path.join(fresh, *name.split("/"))
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            with open(inside, "wb") as file:
                file.write(data)
        _put(fresh, target)
    except OSError as error:
        raise _unwritable(path, option, error, kind="folder") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _put(fresh: str, target: str) -> None:
    """Move `fresh` into the place of `target`; what stood there is then called `fresh`."""
    if not os.path.lexists(target):
        os.rename(fresh, target)
        return
    os.chmod(fresh, stat.S_IMODE(os.stat(target).st_mode))
    if _exchange(fresh, target):
        return
    aside = _beside(target)
    os.rename(target, aside)
    try:
        os.rename(fresh, target)
    except BaseException:
        os.rename(aside, target)
        raise
    os.rename(aside, fresh)


def _exchange(one: str, other: str) -> bool:
    """Exchange two names at once by the system's own call; False where it has none, or the disk does not do it."""
    import ctypes
    import sys

    names = os.fsencode(one), os.fsencode(other)
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux; RENAME_SWAP of macOS is 2 as well
    try:
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            done = library.renamex_np(names[0], names[1], swap)
        else:
            done = library.renameat2(here, names[0], here, names[1], swap)
    except (OSError, AttributeError):
        return False
    return bool(done == 0)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a lock that all who write `path` take, for read-change-write; no file is made for it.

    The lock is on the folder; where the system has none (Windows) nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder = os.path.dirname(os.path.realpath(os.path.expanduser(path)))
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise KvplanError(f"{one_line(path, 80)} cannot be written: {error.strerror}; choose another folder") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
