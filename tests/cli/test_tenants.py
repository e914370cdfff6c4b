"""What somebody who was given one view can reach of what another one shows: nothing, by any way there is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from narfs.formats.worker_protocol import CLIENT_MAGIC, LAST, Operation, integer, string
from tests.cli.program import needs_fuse
from tests.cli.test_daemon import at, create, daemon, needs_root
from tests.support.lakes import Recipe
from tests.support.trees import File

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cli.program import Program

pytestmark = [pytest.mark.mount, needs_fuse, needs_root]

SECRET = b"not for everybody"

TENANT = """
import ctypes, json, os, socket, struct, sys
told = json.loads(sys.argv[1])
os.chdir("/")
os.setgroups([]); os.setgid(told["user"]); os.setuid(told["user"])
view, hidden, home, inodes = told["view"], told["hidden"], told["home"], told["inodes"]
got = []

def attempt(way, reach):
    try:
        got.append((way, repr(reach())))
    except (OSError, ValueError):
        pass

def within(place):
    for name in (hidden, hidden[:32], hidden + "/", f".links/{hidden}", f"./{hidden}", f"../{hidden}",
                 f".links/../{hidden}", f"{told['own']}/../{hidden}", f"{told['own']}/../../secret/{hidden}",
                 f"../../secret/{hidden}"):
        attempt(f"stat {name}", lambda: os.stat(f"{place}/{name}"))
        attempt(f"open {name}", lambda: open(f"{place}/{name}/data", "rb").read())
        attempt(f"list {name}", lambda: os.listdir(f"{place}/{name}"))
        attempt(f"readlink {name}", lambda: os.readlink(f"{place}/{name}"))
        attempt(f"xattr {name}", lambda: os.listxattr(f"{place}/{name}"))

within(view)
for way in (os.listdir(view), os.listdir(f"{view}/.links")):
    if hidden in way:
        got.append(("listed", hidden))
for name in ("user.narfs", "security.capability", "trusted.narfs", "system.posix_acl_access", "user.path"):
    attempt(f"xattr {name}", lambda: os.getxattr(f"{view}/{told['own']}", name))

libc = ctypes.CDLL(None, use_errno=True)
top = os.open(view, os.O_RDONLY | os.O_DIRECTORY)
for inode in inodes:
    for kind in (1, 0x81, 2):
        handle = struct.pack("IiQII", 16, kind, inode, 0, 0)
        fd = libc.open_by_handle_at(top, handle, os.O_RDONLY)
        if fd >= 0:
            got.append((f"handle {inode} of kind {kind}", os.readlink(f"/proc/self/fd/{fd}")))

for directory, names, files in os.walk(home, onerror=lambda _: None):
    for file in files:
        path = os.path.join(directory, file)
        if not path.startswith(told["lake"]):
            attempt(f"read {path}", lambda: open(path, "rb").read().index(told["secret"].encode()))
    for name in (*names, *files):
        if name == hidden and not directory.startswith(told["lake"]):
            got.append(("seen", os.path.join(directory, name)))

for path in told["sockets"]:
    def ask():
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        return "connected"
    attempt(f"socket {path}", ask)

def nix():
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(told["nix"])
    client.sendall(bytes.fromhex(told["question"]))
    answer = b""
    while len(answer) < 40:
        answer += client.recv(4096) or b"x" * 40
    return answer.hex()
print(json.dumps({"got": got, "nix": nix()}))
"""


def attempts(asked: Mapping[str, object]) -> dict[str, Any]:
    """Try them all in a program of its own, which has nothing of ours open."""
    tenant = ["/usr/bin/python3", "-c", TENANT, json.dumps(asked)]
    ran = subprocess.run(tenant, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("frontend", ["tree", "erofs"])
def test_another_view_is_out_of_reach(program: Program, by_erofs: str, frontend: str) -> None:
    secret = program.lake.add("secret", {b"data": File(SECRET * 1000)}, Recipe("xz"))
    hidden = secret.path.base_name
    program.home.chmod(0o755)
    with daemon(program, "--frontend", by_erofs):
        mine, theirs = at(program, "mine"), at(program, "secret") / "place"
        theirs.mkdir()
        theirs.parent.chmod(0o700)
        nix_socket = program.home / "mine.sock"
        options = ("--frontend", frontend, "--at")
        create(program, "secret", "--closure", secret.path.path, *options, str(theirs))
        assert SECRET in (theirs / hidden / "data").read_bytes()  # so it is in the cache
        own = program.tool.path.base_name
        create(program, "mine", "--path", program.tool.path.path, *options, str(mine), "--nix-socket", str(nix_socket))
        assert (mine / own / "bin/tool").read_bytes()
        inodes = [each.stat().st_ino for each in (theirs, theirs / hidden, theirs / hidden / "data")]
        question = b"".join(map(integer, (CLIENT_MAGIC, 1 << 8 | 32, 0, 0)))
        question += integer(Operation.IS_VALID_PATH) + string(secret.path.path.encode())
        asked = {
            "view": str(mine),
            "own": own,
            "hidden": hidden,
            "secret": SECRET.decode(),
            "home": str(program.home),
            "lake": str(program.lake.directory),
            "inodes": [*inodes, *range(1, 200), *(inode + near for inode in inodes for near in range(40))],
            "sockets": [str(each) for each in sorted(Path(program.environ["XDG_RUNTIME_DIR"], "narfs").glob("*.sock"))],
            "nix": str(nix_socket),
            "question": question.hex(),
        }
        assert asked["sockets"]
        assert attempts({**asked, "user": 0})["got"], "who may do everything gets something this way"
        found = attempts({**asked, "user": 65534})
        assert found["got"] == []
        assert found["nix"].endswith(integer(LAST).hex() + integer(0).hex()), found
