from __future__ import annotations

from pathlib import Path

from narfs.daemon.config import Config
from narfs.daemon.status import serves


def test_what_is_served_is_told_without_credentials() -> None:
    config = Config(
        cache_dir=Path("/c"), store=("https://me:secret@cache.example/?trusted=1&priority=3", "/srv/cache/")
    )
    assert serves(config)["stores"] == ["https://cache.example?priority=3&trusted=1", "file:///srv/cache"]
    assert "secret" not in str(serves(config))
