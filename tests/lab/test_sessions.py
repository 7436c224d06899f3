"""What somebody finds who has come in by SSH: the files and the environment of their JupyterLab."""

from __future__ import annotations

import asyncio
import os
import pty
import shlex
from contextlib import suppress
from pathlib import Path

import pytest

from mlmp_spawner.units import MINUTE, now
from tests.lab.server import Server, eventually, run


async def test_a_command_runs_in_the_home_and_its_status_comes_back(server: Server) -> None:
    ended = await server.ssh("ann", "pwd; echo oops >&2; exit 7")
    assert (ended.status, ended.out, ended.err) == (7, f"{server.home}\n", "oops\n")


async def test_every_variable_of_jupyterlab_is_there_unchanged(server: Server) -> None:
    odd = {
        "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
        "ODD": "a b \"q\" $HOME 'x' \\n \\\\ #h `id` %h ; é",
        "EMPTY": "",
        "EQUALS": "a=b=c",
    }
    server.environment |= odd
    await server.stop()
    await server.start()
    ended = await server.ssh("ann", "env -0")
    found = dict(entry.split("=", 1) for entry in ended.out.split("\0") if entry)
    expected = server.environment | odd
    assert {name: found.get(name) for name in expected} == expected


async def test_a_variable_that_is_no_text_is_there_too(server: Server) -> None:
    server.environment["NOTEXT"] = os.fsdecode(b"caf\xe9")
    ended = await server.ssh("ann", 'printf %s "$NOTEXT" | od -An -tx1')
    assert (ended.status, ended.out.split()) == (0, ["63", "61", "66", "e9"])


async def test_a_shell_has_the_path_of_jupyterlab_and_not_that_of_etc_profile(server: Server) -> None:
    ended = await server.ssh("-tt", "ann", input="echo PATH=$PATH=; echo HOME=$HOME=; exit 3\n")
    assert f"PATH={server.environment['PATH']}=" in ended.out
    assert f"HOME={server.home}=" in ended.out
    assert ended.status == 3


async def test_a_script_on_standard_input_is_run_without_prompts(server: Server) -> None:
    ended = await server.ssh("ann", input="echo $((6 * 7)) from $PWD\n")
    assert (ended.out, ended.err) == (f"42 from {server.home}\n", "")


async def test_files_go_by_scp_sftp_and_rsync_to_the_home(server: Server) -> None:
    way = [*server.options, "-i", str(server.root / "laptop")]
    source = server.root / "data.bin"
    source.write_bytes(os.urandom(300_000))
    done = [
        await run("scp", *way, str(source), "ann:by-sftp"),
        await run("scp", "-O", *way, str(source), "ann:by-scp"),
        await run("sftp", *way, "-b", "-", "ann", input=f"put {source} by-batch\n"),
        await run("rsync", "-e", shlex.join(["ssh", *way]), str(source), "ann:by-rsync"),
    ]
    assert [ended.status for ended in done] == [0] * 4, done
    for name in ("by-sftp", "by-scp", "by-batch", "by-rsync"):
        assert (server.home / name).read_bytes() == source.read_bytes()


async def test_ports_are_forwarded_both_ways(server: Server) -> None:
    there, here = server.root / "there.sock", server.root / "here.sock"

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    greeter = await asyncio.start_unix_server(greet, there)
    back = server.root / "back.sock"
    forwards = ["-L", f"{here}:{there}", "-R", f"{back}:{there}"]
    opened = await server.open("-N", "-o", "ExitOnForwardFailure=yes", *forwards, "ann")
    for path in (here, back):
        await eventually(path.exists)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b"hello"
        writer.close()
    opened.terminate()
    await opened.wait()
    greeter.close()


async def test_the_host_key_is_the_same_in_each_server_of_its_user(server: Server) -> None:
    await server.ssh("ann", "true")
    first = (server.socket.parent / "host_key").read_bytes()
    await server.stop()
    (server.socket.parent / "host_key").unlink()
    await server.start()
    assert (await server.ssh("ann", "true")).status == 0
    assert (server.socket.parent / "host_key").read_bytes() == first


async def test_a_host_key_that_the_volume_shows_to_a_group_is_used_all_the_same(server: Server) -> None:
    await server.ssh("ann", "true")
    kept = server.home / ".local/share/mlmp/ssh/host_key"
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.chmod(0o660)
    await server.stop()
    await server.start()
    assert (await server.ssh("ann", "true")).status == 0


class Terminal:
    """A terminal of the test's own, with an ssh in it."""

    def __init__(self) -> None:
        self.text = ""
        self._ours, self.theirs = pty.openpty()
        os.set_blocking(self._ours, False)

    def read(self) -> str:
        """All that was shown so far."""
        with suppress(BlockingIOError):
            self.text += os.read(self._ours, 65536).decode(errors="replace")
        return self.text

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


async def test_each_terminal_is_told_of_the_end_once_and_again_after_an_extension(server: Server) -> None:
    terminal = Terminal()
    command = ["ssh", *server.options, "-i", str(server.root / "laptop"), "-tt", "ann"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=terminal.theirs, stdout=terminal.theirs, stderr=terminal.theirs
    )
    await eventually(lambda: "$" in terminal.read() or "#" in terminal.read())
    for ends, said, times in [
        (10 * MINUTE, "Your booking ends in 10 min", 1),
        (2 * MINUTE, "Your booking ends in 2 min", 1),
        (60 * MINUTE, "", 0),
        (10 * MINUTE, "Your booking ends in 10 min", 2),
    ]:
        server.service.ends = now() + ends
        asked = server.service.asked
        await eventually(lambda asked=asked: server.service.asked > asked + 8)
        assert not said or terminal.read().count(said) == times, terminal.text
    process.kill()
    await process.wait()
    terminal.close()


@pytest.mark.parametrize("command", ["sleep 100", "trap '' PIPE; while :; do sleep 0.1; done"])
async def test_what_runs_in_a_session_ends_with_the_listener(server: Server, command: str) -> None:
    mark = server.home / "pid"
    opened = await server.open("ann", f"echo $$ >pid.new; mv pid.new pid; {command}")
    await eventually(mark.exists)
    await server.stop()
    assert await asyncio.wait_for(opened.wait(), 10) == 255
    await eventually(lambda: not Path(f"/proc/{mark.read_text().strip()}").exists())
