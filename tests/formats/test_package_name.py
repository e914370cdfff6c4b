"""What stays of a package's name when its version changes."""

from __future__ import annotations

import pytest

from narfs.formats.package_name import without_version


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("openssl-3.0.14", "openssl"),
        ("openssl-3.0.14-bin", "openssl-bin"),
        ("python3-3.11.2", "python3"),
        ("python3.11-numpy-1.26.4", "python3.11-numpy"),
        ("foo-unstable-2024-01-01", "foo-unstable"),
        ("foo-1.0-rc1", "foo"),
        ("hook", "hook"),
        ("setup-hook.sh", "setup-hook.sh"),
        ("hello-2.12.1.drv", "hello"),
        ("a-", "a-"),
        ("", ""),
    ],
)
def test_versions_go_and_outputs_stay(name: str, base: str) -> None:
    assert without_version(name) == base
