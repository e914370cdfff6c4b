"""What a local Nix store says of its paths, through ``nix path-info --json``.

Two shapes are in the wild: Nix before 2.19 prints a list of objects that name their ``path``; later ones print one
object from path to object, null where the path is not valid. Field names are the same. From 2.33 on that is format 1
of several, which Nix means to demand by name some day, and 2.32 does not know how to be asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import trio

from narfs.errors import FormatError, NotFound, Unavailable, UsageError
from narfs.formats.digest import Hash
from narfs.formats.quote import quote
from narfs.formats.signature import Signature
from narfs.formats.store_path import StorePath

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator

_FORMAT = "--json-format"
_LOCAL_STORES = ("", "auto", "daemon", "local")


@dataclass(frozen=True, slots=True)
class ValidPath:
    """One valid path of a Nix store; ``deriver`` is a base name."""

    path: StorePath
    nar_hash: bytes
    nar_size: int
    references: tuple[StorePath, ...]
    deriver: str | None
    signatures: tuple[Signature, ...]
    ca: str | None


class NixStore:
    """A Nix store whose files can be read here; ``url`` is Nix's: ``/root``, ``local?root=/root``, None its default."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._root = _root_directory(url or "")

    def real_path(self, path: StorePath) -> Path:
        """Where the files of ``path`` are."""
        return self._root / path.path.lstrip("/")

    async def path_info(self, paths: Iterable[StorePath], *, closure: bool) -> list[ValidPath]:
        """Ask about ``paths``, or about all they refer to as well.

        NotFound names a path that is not valid; UsageError: there is no Nix here; Unavailable: Nix failed.
        """
        arguments = [path.path for path in paths]
        if not arguments:
            return []  # without arguments nix would tell of a flake in the working directory
        command = ["nix", "--extra-experimental-features", "nix-command", "path-info", "--json"]
        command += ["--recursive"] if closure else []
        command += ["--store", self._url] if self._url else []
        command += arguments
        done = await _run(command)
        if done.returncode and _FORMAT.encode() in done.stderr:
            done = await _run([*command, _FORMAT, "1"])
        if done.returncode:
            raise Unavailable(f"nix path-info failed: {_last_line(done)}")
        return parse_path_info(done.stdout)


async def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    except FileNotFoundError as error:
        raise UsageError("pushing from a Nix store needs the program nix, and it is not on PATH") from error


def parse_path_info(text: bytes) -> list[ValidPath]:
    """Read either shape; FormatError where it is neither, NotFound where a path is said not to be valid."""
    try:
        return [_valid_path(path, fields) for path, fields in _rows(json.loads(text))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError("nix path-info", offset=0, expected="its JSON", found=quote(text)) from error


def _rows(document: Any) -> Iterator[tuple[str, dict[str, Any] | None]]:
    if isinstance(document, list):
        return ((fields["path"], fields) for fields in document)
    return iter(document.items())


def _valid_path(path: str, fields: dict[str, Any] | None) -> ValidPath:
    if fields is None or not fields.get("valid", True):
        raise NotFound(f"{path}: not a valid path of the Nix store")
    deriver = fields.get("deriver")
    return ValidPath(
        path=StorePath.parse_absolute(path),
        nar_hash=Hash.parse(fields["narHash"]).digest,
        nar_size=int(fields["narSize"]),
        references=tuple(sorted(StorePath.parse_absolute(reference) for reference in fields["references"])),
        deriver=StorePath.parse_absolute(deriver).base_name if deriver else None,
        signatures=tuple(Signature.parse(text) for text in fields.get("signatures", ())),
        ca=fields.get("ca") or None,
    )


def _root_directory(url: str) -> Path:
    if url.startswith("/"):
        return Path(url)
    kind, _, parameters = url.partition("?")
    if kind not in _LOCAL_STORES:
        raise UsageError(
            f"{url}: not a store whose files can be read here; give a local one: /root or local?root=/root"
        )
    return Path(parse_qs(parameters).get("root", ["/"])[0])


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="backslashreplace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"exit code {done.returncode}"
