"""``mlmp job``: training jobs in the time that nobody booked."""

from __future__ import annotations

from itertools import islice

import click

from mlmp_spawner.client import show as shown
from mlmp_spawner.client.commands import job_run
from mlmp_spawner.client.completion import JOB
from mlmp_spawner.client.job_models import JobRecord
from mlmp_spawner.client.session import LENGTH, Session, command
from mlmp_spawner.errors import Invalid, Unavailable
from mlmp_spawner.units import format_duration, parse_duration

STEP = 2.0
"""Seconds between two looks of ``wait``."""

STATES = ("queued", "starting", "running", "stopping", "ended", "open")


@click.group()
def job() -> None:
    """Training jobs: they run in the time that nobody booked, and make way for bookings.

    \b
      mlmp job run train.py --profile gpu --hours 2 --lr 0.1
      mlmp job ls
      mlmp job logs -f ID
      mlmp job cancel ID
    """


@command(name="ls")
@click.option("--all", "everybody", is_flag=True, help="Everybody's, not only yours.")
@click.option("--past", is_flag=True, help="Those that are over too.")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--batch", metavar="ID", help="Only those that were submitted together.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="The newest so many.")
def ls(session: Session, everybody: bool, past: bool, state: str | None, batch: str | None, limit: int) -> None:
    """Your jobs: what runs, what waits and until when; the newest first."""
    owner = None if everybody else session.client.me().name
    state = state or (None if past else "open")
    every = session.client.jobs.list(owner=owner, state=state, batch=batch, limit=min(limit + 1, 200))
    found = list(islice(every, limit + 1))
    more, found = found[limit:], found[:limit]
    if session.json:
        shown.print_json({"items": [one.raw for one in found], "next_cursor": None})
        return
    if not found:
        none = "No jobs." if everybody else "You have no jobs."
        session.say(none if past or state != "open" else f"{none} Those that are over: mlmp job ls --past")
        return
    from mlmp_spawner.client import job_show

    clock = session.clock()
    columns = ["id", *(["owner"] if everybody else []), "name", "state", "on", "", "why"]
    rows = [
        (one.id, *([one.owner or "(somebody)"] if everybody else []), one.name, job_show.state(one),
         _on(one), job_show.when(one, clock), one.why)
        for one in found
    ]  # fmt: skip
    rest = f"; there are more: --limit {2 * limit}" if more else ""
    shown.table(session.out, columns, rows, caption=f"times in {clock.zone_name}{rest}")


def _on(one: JobRecord) -> str:
    workers = f", {one.workers} workers" if one.workers > 1 else ""
    return (f"{one.units} x " if one.units > 1 else "") + one.profile + workers


@command(name="show")
@click.argument("id", type=JOB)
def show(session: Session, id: str) -> None:
    """One job: how it is, why it waits or why it ended, and each time it was tried."""
    found = session.client.jobs.get(id)
    if session.json:
        shown.print_json(found.raw)
        return
    from mlmp_spawner.client import job_show

    clock = session.clock()
    session.say(
        f"{found.id}  {job_show.what(found)}" + (f", of {found.owner}" if found.owner and not found.mine else "")
    )
    said = (job_show.state(found), job_show.when(found, clock))
    session.say(f"  {', '.join(filter(None, said))} ({clock.zone_name})")
    for text in filter(None, (found.why, *found.message.splitlines())):
        session.say(f"  {text}")
    if found.batch:
        session.say(f"  one of several that were submitted together: mlmp job ls --past --batch {found.batch}")
    rows = [
        (one.number, ", ".join(dict.fromkeys(one.nodes)), _time(clock, one.started_at), _time(clock, one.ended_at),
         job_show.reason(one) or one.state)
        for one in found.attempts
    ]  # fmt: skip
    if rows:
        shown.table(session.out, ("attempt", "on", "from", "until", "ended as"), rows)
        session.say(f"  Its log: mlmp job logs {found.id}")


def _time(clock: shown.Clock, at: int | None) -> str:
    return "" if at is None else clock.time(at)


@command(name="logs")
@click.argument("id", type=JOB)
@click.option("--follow", "-f", is_flag=True, help="Go on until the job is over; exit status 1 if it failed.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this try. [default: the last]")
@click.option("--tail", type=click.IntRange(min=1), metavar="BYTES", help="Only the last bytes so far.")
def logs(session: Session, id: str, follow: bool, attempt: int | None, tail: int | None) -> None:
    """What job ID has printed."""
    start = -tail if tail else 0
    if follow:
        if attempt is not None or session.json:
            raise Invalid.field(
                "--follow", "it goes from the last try to those after it: without --attempt and --json"
            )
        job_run.follow(session, session.client.jobs.get(id), start=start)
    pieces = session.client.jobs.log(id, attempt, start=start)
    if session.json:
        shown.print_json({"id": id, "attempt": attempt, "text": "".join(pieces)})
        return
    from mlmp_spawner.client.job_show import Screen

    screen = Screen()
    for text in pieces:
        screen.write(text)
    screen.close()


@command(name="cancel")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=JOB)
def cancel(session: Session, ids: tuple[str, ...]) -> None:
    """End jobs: at once what waits; what runs gets its grace to write a checkpoint."""
    done = [session.client.jobs.cancel(id) for id in ids]
    if session.json:
        shown.print_json({"items": [one.raw for one in done]})
        return
    for one in done:
        ends = "" if one.ended else ": it was asked to end, and is ended after its grace"
        session.say(f"Cancelled {one.id}{ends}.")


@command(name="resubmit")
@click.argument("id", type=JOB)
@click.option("--follow/--detach", default=None, help="Show its log until it is over. [default: --detach]")
def resubmit(session: Session, id: str, follow: bool | None) -> None:
    """Put the same job once more into the queue, with the code that it had, as a new one."""
    job_run.answer(session, session.client.jobs.resubmit(id), bool(follow))


@command(name="wait")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=JOB)
@click.option("--timeout", type=LENGTH, help="Give up after this time: 90m, 4h. [default: never]")
def wait(session: Session, ids: tuple[str, ...], timeout: str | None) -> None:
    """Wait until jobs are over. Exit status 0 if all succeeded, 1 if not, 3 if they are not over in time."""
    from mlmp_spawner.client import job_show, jobs

    found = [jobs.get(id, client=session.client) for id in ids]
    try:
        jobs.wait(found, None if timeout is None else parse_duration(timeout) / 1000)
    except TimeoutError:
        left = [one.id for one in found if not one.ended]
        after = format_duration(parse_duration(str(timeout)))
        raise Unavailable(
            f"{len(left)} of {len(found)} jobs are not over after {after}.", hint=f"Look: mlmp job show {left[0]}"
        ) from None
    if session.json:
        shown.print_json({"items": [one.record.raw for one in found]})
    else:
        clock = session.clock()
        for one in found:
            session.say(job_show.line(one.record, clock))
    click.get_current_context().exit(0 if all(one.succeeded for one in found) else 1)


for _each in (job_run.run, job_run.submit, ls, show, logs, cancel, resubmit, wait):
    job.add_command(_each)
