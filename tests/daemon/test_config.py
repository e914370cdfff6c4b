from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from narfs.daemon import directories
from narfs.daemon.config import Config
from narfs.daemon.sizes import Size
from narfs.daemon.sources import load
from narfs.engine.trust import Verify
from narfs.errors import FormatError, UsageError
from narfs.formats.signature import CACHE_NIXOS_ORG_KEY, SecretKey

KEY = str(SecretKey.generate("example-1").public)


class Machine:
    """The files and variables that a Config is made from."""

    def __init__(self, root: Path) -> None:
        self.etc = root / "etc"
        self.home = root / "home"
        self.environ = {"HOME": str(self.home)}

    def write(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def load(self, *, file: Path | None = None, **command_line: object) -> Config:
        given = {key.replace("_", "-"): value for key, value in command_line.items()}
        return load(given, environ=self.environ, etc=self.etc, file=file)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_any_configuration_it_is_what_nix_does(machine: Machine) -> None:
    config = machine.load()
    assert config.store == ("https://cache.nixos.org/",)
    assert list(config.trusted_public_keys) == [CACHE_NIXOS_ORG_KEY]
    assert config.verify is Verify.STRICT
    assert config.netrc_file == Path("/etc/nix/netrc")


def test_nix_conf_of_system_user_and_environment_add_up(machine: Machine) -> None:
    machine.write(machine.etc / "nix/nix.conf", f"substituters = https://a.example\ntrusted-public-keys = {KEY}\n")
    machine.write(machine.home / ".config/nix/nix.conf", "extra-substituters = https://b.example\n!include absent\n")
    machine.environ["NIX_CONFIG"] = "extra-substituters = https://c.example\nssl-cert-file = /ca.pem"
    config = machine.load()
    assert config.store == ("https://a.example", "https://b.example", "https://c.example")
    assert str(config.trusted_public_keys) == KEY
    assert config.ssl_cert_file == Path("/ca.pem")


def test_a_bucket_of_nix_is_left_out_where_the_extra_is_missing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine.write(machine.etc / "nix/nix.conf", "substituters = https://a.example s3://lake?region=eu-1\n")
    assert machine.load().store == ("https://a.example", "s3://lake?region=eu-1")
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert machine.load().store == ("https://a.example",)
    assert "pip install 'narfs[s3]'" in caplog.text


def test_substituters_that_only_nix_understands_are_left_out(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.environ["NIX_CONFIG"] = "substituters = ssh://builder https://a.example"
    assert machine.load().store == ("https://a.example",)
    assert "ssh" in caplog.text


def test_nix_ssl_cert_file_wins_over_nix_conf_as_in_nix(machine: Machine) -> None:
    machine.environ |= {"NIX_CONFIG": "ssl-cert-file = /ca.pem", "NIX_SSL_CERT_FILE": "/other.pem"}
    assert machine.load().ssl_cert_file == Path("/other.pem")


def test_the_toml_file_wins_over_nix_and_the_command_line_over_both(machine: Machine) -> None:
    machine.environ["NIX_CONFIG"] = "substituters = https://nix.example"
    toml = 'store = ["https://toml.example"]\nverify = "progressive"\ncache-size = "3G"\nread-deadline = 7\n'
    machine.write(machine.home / ".config/narfs/config.toml", toml)
    config = machine.load(verify="strict")
    assert config.store == ("https://toml.example",)
    assert config.verify is Verify.STRICT
    assert config.cache_size == Size(bytes=3 << 30)
    assert config.read_deadline_s == 7.0


def test_the_user_s_file_is_read_instead_of_the_system_s(machine: Machine) -> None:
    system = machine.write(machine.etc / "narfs/config.toml", "negative-ttl = 1\nread-deadline = 9\n")
    assert machine.load().negative_ttl_s == 1.0
    machine.write(machine.home / ".config/narfs/config.toml", "negative-ttl = 2\n")
    config = machine.load()
    assert (config.negative_ttl_s, config.read_deadline_s) == (2.0, 120.0)
    assert machine.load(file=system).negative_ttl_s == 1.0


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ('colour = "red"', "unknown key 'colour'; known are bandwidth, "),
        ("cachesize = 3", "unknown key 'cachesize'; did you mean cache-size?"),
        ('verify = "never"', "verify: expected strict or progressive, found 'never'"),
        ("cache-size = -1", "cache-size: expected"),
        ('cache-size = "lots"', "cache-size: expected a size such as 20G"),
        ("read-deadline = 0", "read-deadline: expected a number of seconds greater than 0"),
        ("read-deadline = true", "read-deadline: expected a number"),
        ('read-deadline = "soon"', "read-deadline: expected a number"),
        ('cache-dir = "relative"', "cache-dir: expected an absolute path"),
        ('netrc-file = ""', "netrc-file"),
        ('store = "gopher://x"', "store: .*gopher"),
        ("store = []", "store: expected at least one"),
        ("store = [1]", "store: expected a list of texts"),
        ('trusted-public-keys = "nonsense"', "trusted-public-keys"),
        ("verify =", "not TOML"),
    ],
)
def test_what_is_unknown_or_impossible_stops_the_start_and_is_named(
    machine: Machine, toml: str, complaint: str
) -> None:
    file = machine.write(machine.etc / "narfs/config.toml", toml)
    with pytest.raises(UsageError, match=complaint) as raised:
        machine.load()
    assert str(file) in str(raised.value)


def test_a_named_file_must_exist(machine: Machine) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        machine.load(file=machine.etc / "absent.toml")


def test_a_bad_nix_conf_is_named(machine: Machine) -> None:
    file = machine.write(machine.etc / "nix/nix.conf", "substituters https://a.example\n")
    with pytest.raises(FormatError, match=str(file)):
        machine.load()
    machine.write(file, "include missing.conf\n")
    with pytest.raises(UsageError, match=r"missing\.conf"):
        machine.load()


def test_the_cache_takes_a_tenth_of_its_disk_and_at_most_20_gib() -> None:
    config = Config(cache_dir=Path("/cache"))
    assert config.cache_bytes(100 << 30) == 10 << 30
    assert config.cache_bytes(1 << 50) == 20 << 30


def test_directories_follow_xdg_where_it_is_set(tmp_path: Path) -> None:
    environ = {f"XDG_{kind}": str(tmp_path / kind) for kind in ("CACHE_HOME", "STATE_HOME", "RUNTIME_DIR")}
    assert directories.cache_directory(environ) == tmp_path / "CACHE_HOME" / "narfs"
    assert directories.log_directory(environ) == tmp_path / "STATE_HOME" / "narfs"
    assert directories.runtime_directory(environ) == tmp_path / "RUNTIME_DIR" / "narfs"


def test_private_directories_are_closed_to_others_and_never_somebody_else_s(tmp_path: Path) -> None:
    made = directories.private_directory(tmp_path / "a" / "b")
    made.chmod(0o755)
    assert stat.S_IMODE(directories.private_directory(made).stat().st_mode) == 0o700
    link = tmp_path / "link"
    link.symlink_to(made)
    with pytest.raises(PermissionError):
        directories.private_directory(link)


def test_index_stores_are_of_use_only_with_index_keys(machine: Machine) -> None:
    file = machine.write(machine.home / ".config/narfs/config.toml", 'index-stores = ["/srv/indexes"]\n')
    with pytest.raises(UsageError, match="trusted-index-keys"):
        machine.load()
    assert machine.load(trusted_index_keys=KEY).index_stores == ("/srv/indexes",)
    assert machine.load(index_stores=()).index_stores == ()
    file.write_text('index-stores = ["ftp://indexes"]\n')
    with pytest.raises(UsageError, match="index-stores"):
        machine.load(trusted_index_keys=KEY)
