"""What reads requests of FUSE goes on where there is nothing to read, or no memory to read it into."""

from __future__ import annotations

import errno

import pytest
import trio
import trio.testing

from narfs.mount.fuse import reading


async def test_a_request_waits_for_memory_to_be_read_into(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 - nobody waits a second for it
) -> None:
    failures = [errno.ENOMEM, errno.EAGAIN, errno.ENOMEM]

    async def pyfuse3_s(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        if failures:
            raise OSError(failures.pop(), "fuse_session_receive_buf failed")

    monkeypatch.setattr(reading, "_loop", pyfuse3_s)
    begun = trio.current_time()
    await reading._patient_loop()
    assert failures == []
    assert trio.current_time() - begun == 2
    failures.append(errno.EIO)
    with pytest.raises(OSError, match="receive_buf") as failed:
        await reading._patient_loop()
    assert failed.value.errno == errno.EIO
