"""``narfs push``: sources, key and target of one push, opened for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from narfs.daemon.event_loop import most_telling
from narfs.daemon.selection import PathName
from narfs.errors import FormatError, UsageError
from narfs.formats.signature import SecretKey
from narfs.lake.settings import LakeSettings
from narfs.lake.upstreams import open_lakes
from narfs.publish.nix_store import NixStore
from narfs.publish.push import push
from narfs.publish.sources import find_sources

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from narfs.daemon.config import Config
    from narfs.formats.store_path import StorePath
    from narfs.publish.progress import Progress
    from narfs.publish.push import PushReport


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """What is pushed and where to, as it was typed. ``nix_store`` is the Nix store that store paths are taken from."""

    target: str
    arguments: tuple[str, ...]
    closure: bool
    secret_key_file: Path | None
    compression: str
    level: int | None
    references: tuple[str, ...]
    nix_store: str | None
    dry_run: bool


async def run_push(config: Config, request: PushRequest, progress: Callable[[Progress], None]) -> PushReport:
    """Push; the lake is opened with the credentials and certificates of ``config``, not its stores."""
    key = None if request.secret_key_file is None else read_key(request.secret_key_file)
    references = tuple(map(_reference, request.references))
    sources = await find_sources(request.arguments, NixStore(request.nix_store), closure=request.closure)
    settings = LakeSettings(
        stall_deadline_s=config.stall_deadline_s, netrc_file=config.netrc_file, ssl_cert_file=config.ssl_cert_file
    )
    level = {} if request.level is None else {"level": request.level}
    try:
        async with open_lakes([request.target], settings, patient=True) as lakes:
            return await push(
                lakes.lakes[0],
                sources,
                key=key,
                compression=request.compression,
                references=references,
                progress=progress,
                dry_run=request.dry_run,
                **level,
            )
    except BaseExceptionGroup as group:
        raise most_telling(group) from group


def read_key(file: Path) -> SecretKey:
    """Read a secret key file; UsageError."""
    try:
        return SecretKey.parse(file.read_text(encoding="ascii", errors="replace").strip())
    except OSError as error:
        raise UsageError(f"{file}: the secret key cannot be read: {error.strerror}") from error
    except FormatError as error:
        raise UsageError(f"{file}: is no secret key: expected {error.expected}, found {error.found}") from error


def _reference(text: str) -> StorePath:
    path = PathName.parse(text).path
    if path is None:
        raise UsageError(f"{text}: the whole store path is needed here, not only its hash")
    return path
