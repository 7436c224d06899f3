"""Jobs as processes of this machine, each attempt below an ``mlmp run`` of its own.

The service starts nothing itself: a helper of ``mlmp up``, which may be root's, does when it is told an attempt's id
at a socket. What runs is known from the records that each ``mlmp run`` keeps, how it ended from the file that it
leaves; when it has to end is told by a file that it reads. So jobs go on though service and helper be dead.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlmp_spawner import deadlines, private_files, processes
from mlmp_spawner.deadlines import Deadline
from mlmp_spawner.errors import Unavailable
from mlmp_spawner.jobs.base import LogPart, Order, Seen
from mlmp_spawner.jobs.files import JobFiles

ANSWER_WITHIN = 60.0
"""Seconds that the helper may take to start an attempt."""
SIGNALS = "It was ended by signal {}."


class LocalJobs:
    """:class:`~mlmp_spawner.jobs.base.Backend` on one machine."""

    queues = False

    def __init__(self, files: JobFiles) -> None:
        self.files = files
        self._writing = threading.Lock()

    async def submit(self, order: Order) -> None:
        """Has it started; returns when it runs, or has ended.

        :raises Unavailable: the helper does not answer, or could not.
        """
        await asyncio.to_thread(self._prepare, order)
        try:
            answer = await asyncio.wait_for(_ask(self.files.socket, {"start": order.id}), ANSWER_WITHIN)
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            problem = f"What starts jobs on this machine does not answer ({type(error).__name__})."
            raise Unavailable(problem, hint="`mlmp up` starts it again; its log is logs/jobs.log.") from None
        if answer.get("started") is not True:
            raise Unavailable(f"The attempt {order.id} could not be started: {answer.get('error')}")

    async def state(self, attempt: str) -> Seen | None:
        """What is seen of one."""
        return await asyncio.to_thread(self._state, attempt)

    async def logs(self, attempt: str, start: int, limit: int) -> LogPart:
        """A part of its log."""
        return await asyncio.to_thread(self.files.read_log, attempt, start, limit)

    async def cancel(self, attempt: str, *, stop_at: int, kill_at: int) -> None:
        """Brings its end forward."""
        await asyncio.to_thread(self._publish, attempt, Deadline(stop_at, kill_at), new=False)

    async def list(self) -> dict[str, Seen]:
        """All whose record or end is there."""
        return await asyncio.to_thread(self._list)

    async def forget(self, attempt: str) -> None:
        """Removes all but what it printed and noted. What still runs is not forgotten."""
        await asyncio.to_thread(self._forget, attempt)

    def _prepare(self, order: Order) -> None:
        """Writes what its ``mlmp run`` reads."""
        limit = self.files.log(order.id).with_name("limit")
        limit.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_files.write(limit, str(order.log_limit).encode())
        self._publish(order.id, Deadline(order.stop_at, order.kill_at), new=True)

    def _publish(self, attempt: str, times: Deadline, *, new: bool) -> None:
        """Writes when it ends; never later than what was written before."""
        with self._writing:
            former = deadlines.read(self.files.deadlines, attempt)
            if former is None and not new:
                return
            wanted = times
            if former is not None:
                wanted = Deadline(min(former.stop_at, times.stop_at), min(former.end, times.end))
            if wanted != former:
                deadlines.write(self.files.deadlines, attempt, wanted)

    def _state(self, attempt: str) -> Seen | None:
        record = processes.read_record(self.files.running / f"{attempt}.json")
        # In this order: the end is written before the record goes.
        return _ended(self.files.ended(attempt)) or (_running(record) if record is not None else None)

    def _list(self) -> dict[str, Seen]:
        records = (processes.read_record(path) for path in self.files.running.glob("[!.]*.json"))
        found = {record.id: _running(record) for record in records if record is not None}
        ended = (_ended(path) for path in self.files.root.glob("ended/[!.]*"))
        return found | {seen.id: seen for seen in ended if seen is not None}

    def _forget(self, attempt: str) -> None:
        ended, record = self.files.ended(attempt), self.files.running / f"{attempt}.json"
        if ended.exists() or not record.exists():
            with self._writing:
                deadlines.remove(self.files.deadlines, attempt)
        if ended.exists():
            record.unlink(missing_ok=True)  # its guard was killed just before it did
            ended.unlink(missing_ok=True)


def _running(record: processes.Record) -> Seen:
    """Also where its ``mlmp run`` was killed: the helper sees that, ends what is left and writes how it ended."""
    return Seen(record.id, "running", started_at=record.started)


def _ended(path: Path) -> Seen | None:
    try:
        content = json.loads(path.read_text())
        status, number, reason, message, out_of_memory = (
            content[key] for key in ("exit_status", "signal", "reason", "message", "oom")
        )
        began, over = content["started_at"], content["ended_at"]
    except OSError:  # there is none, or none that can be read: nothing is concluded from that
        return None
    except (ValueError, KeyError, TypeError):
        return Seen(path.name, "ended", reason="platform", message="What was written of its end can't be read.")
    if reason is None:
        reason = "succeeded" if status == 0 else "out_of_memory" if out_of_memory else None
    if reason is None:
        reason = "signal" if number is not None else "exit_status"
    message = message or (SIGNALS.format(number) if reason == "signal" else "")
    return Seen(path.name, "ended", began, over, reason, status, message)


async def _ask(path: Path, question: dict[str, str]) -> dict[str, Any]:
    """Asks the helper.

    :raises OSError: it does not listen. :raises ValueError: that is no answer.
    """
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(json.dumps(question).encode() + b"\n")
        await writer.drain()
        answer = json.loads(await reader.readline())
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    if not isinstance(answer, dict):
        raise ValueError("that is no answer")
    return answer
