"""A user's own measurements of a device, stored under a name: `kvplan calibrate --from FILE` writes, `--gpu NAME` reads.

A JSON file a name in the folder `measured` of the user's own entries. The device itself stays the catalogue's: what is
stored is how fast an engine was on it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, replace

from planner.errors import KvplanError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.catalogue.device import Device, OwnSpeed

KIND = "kvplan measured device"
SCHEMA_VERSION = 1
FOLDER = "measured"
MOST_BYTES = 4 << 20
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,39}")
_SHOWN = re.compile(r".{1,80} \(([A-Za-z][A-Za-z0-9._-]{0,39})\)")
AGAIN = "; run kvplan calibrate --from again"


class BadOwnSpeed(KvplanError):
    """A file of stored measurements that cannot be read, or that is not one."""


def own_key(name: str) -> str | None:
    """Returns the stored name in "mine" or "L4 (mine)"; None for a text that is none.

    >>> own_key("Mine"), own_key("L4 (mine)"), own_key("../mine")
    ('mine', 'mine', None)
    """
    if len(name) > 130:
        return None
    shown = _SHOWN.fullmatch(name.strip())
    key = (shown[1] if shown else name.strip()).lower()
    return key if _NAME.fullmatch(key) else None


def path_in(home: str, name: str) -> str:
    """Tells where the measurements called `name` are stored in the user's folder."""
    return os.path.join(home, FOLDER, f"{name}.json")


def names_in(home: str) -> list[str]:
    """Lists the names that measurements are stored under."""
    try:
        found = os.listdir(os.path.join(home, FOLDER))
    except OSError:
        return []
    return sorted(name[:-5] for name in found if name.endswith(".json") and _NAME.fullmatch(name[:-5]))


def with_own(own: OwnSpeed, known: Device | None, where: str) -> Device:
    """Returns the device that was measured, `known` or as the file describes it, its stored name beside its own: "L4 (mine)"."""
    if known is None:
        if own.machine is None:
            raise BadOwnSpeed(f"{where}: its device {one_line(own.device, 40)!r} is not in the catalogue{AGAIN}")
        from planner.catalogue.device import Device

        machine = own.machine
        known = Device(
            own.device, machine.memory_bytes, ("kvplan calibrate --from",), None, vendor=machine.vendor,
            bandwidth_bytes_per_s=machine.bandwidth_bytes_per_s, dense_flops_per_s=machine.dense_flops_per_s, origin=where,
        )  # fmt: skip
    return replace(known, name=f"{known.name} ({own.name})", aliases=(own.name, *known.aliases), own=own)


def to_json(own: OwnSpeed) -> str:
    """Writes the file's text."""
    raw = {"kind": KIND, "schema_version": SCHEMA_VERSION, **asdict(own)}
    return json.dumps(raw, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: str) -> OwnSpeed:
    """Reads what a file stores; BadOwnSpeed, in one line, for one that is damaged, foreign or newer."""
    from planner.files.read import read_text

    return own_from_json(
        read_text(path, most_bytes=MOST_BYTES, what="stored measurements", error=BadOwnSpeed), one_line(path, 120)
    )


def own_from_json(text: str, where: str) -> OwnSpeed:
    """Reads the same from a text."""
    from dataclasses import fields

    from planner.catalogue.device import OwnSpeed
    from planner.files.read import check_kind, decode, parse_json

    raw = parse_json(text, where, error=BadOwnSpeed, again=AGAIN)
    try:
        raw = check_kind(
            raw, KIND, SCHEMA_VERSION, where=where, what="what kvplan calibrate --from writes", error=BadOwnSpeed
        )
        wanted = {item.name for item in fields(OwnSpeed)}
        made: OwnSpeed = decode(
            OwnSpeed, {key: value for key, value in raw.items() if key in wanted}, where, error=BadOwnSpeed
        )
        _check(made, where)
    except BadOwnSpeed as wrong:
        raise BadOwnSpeed(f"{wrong}{'' if 'update kvplan' in str(wrong) else AGAIN}") from None
    return made


def _check(own: OwnSpeed, where: str) -> None:
    """Every figure is above zero and far from the ends of what a number may be, and every text is one line."""
    for name, value in own.constants.items():
        if not (1e-15 < value < 1e6 or (name == "serial" and value == 0)):
            raise BadOwnSpeed(f"{where}.constants.{one_line(name, 40)}: {value:g} is no constant of a speed")
    if own.machine is not None and not (
        own.machine.memory_bytes > 0
        and own.machine.bandwidth_bytes_per_s > 0
        and all(rate > 0 for rate in own.machine.dense_flops_per_s.values())
    ):
        raise BadOwnSpeed(f"{where}.machine: a size or a rate of zero or less")
    for text in (own.name, own.device, own.engine, own.model, own.shape, own.date, own.words):
        if not text.isprintable() or len(text) > 400:
            raise BadOwnSpeed(f"{where}: holds a text of more than a line")
