"""Terminals: one of this machine with a command on it, and one in JupyterLab."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from websockets.sync.client import connect

from tests.live import Person, wait_for


class Terminal:
    """A person before a terminal. ``seen``: all that it has shown."""

    def __init__(self, pid: int, device: int) -> None:
        self.pid, self.device, self.seen = pid, device, ""

    def say(self, line: str) -> None:
        """Types a line."""
        os.write(self.device, f"{line}\r".encode())

    def press_until(self, key: str, shown: str) -> None:
        """Presses a key until the terminal shows that it was taken."""
        self._read()
        before = self.seen.count(shown)

        def taken() -> bool:
            os.write(self.device, key.encode())
            self._read()
            return self.seen.count(shown) > before

        wait_for(taken, 20, f"{shown!r}")

    def sees(self, text: str) -> bool:
        """Whether a line of what was shown is that."""
        self._read()
        return any(line.strip() == text for line in self.seen.splitlines())

    def sees_within(self, text: str) -> bool:
        """Whether that was shown anywhere."""
        self._read()
        return text in self.seen

    def expect(self, text: str) -> None:
        """Waits for a line."""
        try:
            wait_for(lambda: self.sees(text), 40, f"the line {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it showed {self.seen!r}") from None

    def resize(self, rows: int, columns: int) -> None:
        """Makes the window another size."""
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def exit_status(self) -> int:
        """Waits for the end."""

        def ended() -> tuple[int, int] | None:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (pid, status) if pid else None

        _, status = wait_for(ended, 20, "the end of the command")
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> None:
        while select.select([self.device], [], [], 0.05)[0]:
            try:
                data = os.read(self.device, 65536)
            except OSError:  # nobody is at the other side any more
                return
            if not data:
                return
            self.seen += data.decode(errors="replace")


@contextmanager
def on_a_terminal(
    words: Sequence[str], environment: Mapping[str, str], *, rows: int, columns: int
) -> Iterator[Terminal]:
    """A command on a terminal of that size."""
    pid, device = pty.fork()
    if pid == 0:
        os.execvpe(words[0], list(words), {**environment, "TERM": "xterm"})
    terminal = Terminal(pid, device)
    terminal.resize(rows, columns)
    try:
        yield terminal
    finally:
        if terminal.pid:
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
        os.close(device)


def environment_of_lab(person: Person, home: Path) -> dict[str, str]:
    """The variables in a terminal of JupyterLab; its devices and who one is there go to ``lab-dev`` and ``lab-id``."""
    base = f"/user/{person.name}/"
    made = person.api.post(f"{base}api/terminals")
    assert made.status_code == 200, made.text
    name = made.json()["name"]
    url = f"{person.site.url.replace('http', 'ws', 1).rstrip('/')}{base}terminals/websocket/{name}"
    (home / "lab-done").unlink(missing_ok=True)
    script = home / "look.sh"
    script.write_text("env -0 > lab-env; ls -F /dev > lab-dev; id > lab-id; touch lab-done\n")
    with connect(url, additional_headers={"Authorization": f"token {person.token}"}) as way:
        way.send(json.dumps(["stdin", "sh ~/look.sh\r"]))
        wait_for((home / "lab-done").exists, 30, "the terminal of JupyterLab")
    person.api.delete(f"{base}api/terminals/{name}")
    return dict(item.split("=", 1) for item in (home / "lab-env").read_text().split("\0") if item)
