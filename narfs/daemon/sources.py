"""Where a Config comes from; later sources win.

1. the defaults of Config;
2. Nix's own configuration: /etc/nix/nix.conf, ~/.config/nix/nix.conf, NIX_CONFIG (substituters, trusted-public-keys,
   netrc-file, ssl-cert-file), then NIX_SSL_CERT_FILE;
3. one TOML file of narfs: the one named by --config, else the user's, else /etc/narfs/config.toml;
4. the command line.
"""

from __future__ import annotations

import importlib.util
import logging
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from narfs.daemon.config import Config, with_settings
from narfs.daemon.directories import cache_directory, config_file
from narfs.errors import UsageError
from narfs.formats.nix_conf import NixConf
from narfs.lake.store_url import S3_NEEDS, StoreUrl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)


def load(
    command_line: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    file: Path | None = None,
    etc: Path = Path("/etc"),
) -> Config:
    """Read every source and give the Config; UsageError names file and key of what is wrong.

    ``command_line`` holds only what was given there, by key; ``file`` is the one TOML file that must exist.
    """
    config = _from_nix(Config(cache_dir=cache_directory(environ)), environ, etc)
    if found := _toml_file(environ, file, etc):
        config = with_settings(config, _toml_settings(found), origin=str(found))
    config = with_settings(config, command_line, origin="command line")
    if config.index_stores and not len(config.trusted_index_keys):
        raise UsageError("index-stores: no index counts without trusted-index-keys: say whose are to be believed")
    return config


def _from_nix(config: Config, environ: Mapping[str, str], etc: Path) -> Config:
    """Lay Nix's configuration over ``config``: system's file, user's file, NIX_CONFIG, each on top of the last."""
    conf = NixConf()
    for file in _nix_conf_files(environ, etc):
        if (text := _included(str(file), False)) is not None:
            conf = NixConf.parse(text, _included, path=str(file), base=conf)
    if text := environ.get("NIX_CONFIG"):
        conf = NixConf.parse(text, _included, path="NIX_CONFIG", base=conf)
    certificates = environ.get("NIX_SSL_CERT_FILE") or conf.ssl_cert_file
    return replace(
        config,
        store=tuple(store for store in conf.substituters if _can_be_read(store)),
        trusted_public_keys=conf.trusted_public_keys,
        netrc_file=Path(conf.netrc_file),
        ssl_cert_file=Path(certificates) if certificates else None,
    )


def _nix_conf_files(environ: Mapping[str, str], etc: Path) -> Iterator[Path]:
    yield Path(environ.get("NIX_CONF_DIR") or etc / "nix") / "nix.conf"
    yield config_file(environ).parents[1] / "nix" / "nix.conf"


def _included(path: str, required: bool) -> str | None:
    """Read a file of Nix's; one that is not there or not for us is an error only if it was asked for by name."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        if required:
            raise UsageError(f"{path}: {error.strerror}") from error
        return None


def _can_be_read(store: str) -> bool:
    """Say whether narfs can use a substituter of Nix's; it may have others that only Nix understands."""
    try:
        url = StoreUrl.parse(store)
    except UsageError as error:
        log.warning("nix.conf: substituter left out: %s", error)
        return False
    if url.is_s3 and importlib.util.find_spec("obstore") is None:
        log.warning("nix.conf: substituter left out: %s: %s", url, S3_NEEDS)
        return False
    return True


def _toml_file(environ: Mapping[str, str], named: Path | None, etc: Path) -> Path | None:
    if named is not None:
        return named
    candidates = (config_file(environ), etc / "narfs" / "config.toml")
    return next((path for path in candidates if path.exists()), None)


def _toml_settings(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot read the configuration: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not TOML: {error}") from error
