"""The pages of jobs without a script: whole, right, and showing nobody what is not theirs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from mlmp_spawner.rules.job_queue import Outlook, Why
from mlmp_spawner.rules.jobs import Attempt, Job
from mlmp_spawner.units import HOUR, MINUTE
from mlmp_spawner.web.job_log import SHOWN
from mlmp_spawner.web.pages.job_compare import MOST
from tests.operations.conftest import NOW
from tests.web.harness import PREFIX, RunningApp
from tests.web.job_rows import Rows
from tests.web.visitor import EVALUATED, HOSTILE, Visitor, text

Visit = Callable[..., Visitor]
OF_A_LOG = re.compile(r'<pre class="job-log".*?>\n(.*?)</pre>', re.DOTALL)


@pytest.fixture
def rows(app: RunningApp, tmp_path: Path) -> Rows:
    return Rows.of(app, tmp_path)


def over(rows: Rows, name: str = "old", *, lr: float = 0.1, **facts: object) -> tuple[Job, Attempt]:
    """A job of ann's that succeeded and measured its loss."""
    job = rows.add(name=name, manifest={"arguments": ["--lr", str(lr), "--fast"]})
    attempt = rows.attempt(job, started_at=NOW - HOUR, ended_at=NOW - MINUTE, reason="succeeded", exit_status=0)
    rows.measured(attempt, [(NOW - HOUR + n, n, {"loss": lr + 1 / (n + 1)}) for n in range(50)])
    rows.end(job, **{"outcome": "succeeded", "reason": "succeeded", "exit_status": 0, **facts})
    return job, attempt


def notes(html: str, job: Job) -> str:
    """What the list says of a job."""
    found = re.search(rf'<li class="job-row" id="job-{job.id}".*?</li>', html, re.DOTALL)
    return text(found[0]) if found else ""


# -- the queue ----------------------------------------------------------------------------------------------------


def test_an_empty_queue_says_how_the_first_job_is_run(rows: Rows, visit: Visit):
    page = visit().get("jobs")
    assert "mlmp job run train.py --profile gpu --hours 1" in page
    assert "None of your jobs runs or waits." in text(page)


def test_who_comes_after_the_end_of_a_job_finds_it_still(rows: Rows, visit: Visit):
    jobs = [over(rows, f"run-{n}")[0] for n in range(5)]
    page = visit().get("jobs")
    assert "None of your jobs runs or waits." in text(page)
    shown = [notes(page, job) for job in jobs if notes(page, job)]
    assert len(shown) == 3 and all("succeeded run-" in one for one in shown)
    assert "state=ended" in page and "All that are over" in page
    rows.add(name="next")
    assert "All that are over" not in visit().get("jobs")
    assert "run-" not in text(visit("ben-token").get("jobs"))


def test_what_waits_says_when_it_may_start_and_why_it_waits(rows: Rows, visit: Visit):
    first, second = rows.add(name="first", units=2), rows.add(name="second")
    rows.outlook[first.id] = Outlook(NOW + HOUR, Why("in_use"))
    page = visit().get("jobs")
    assert "waiting first 2 × A100 starts about 09:00" in notes(page, first)
    assert "Waits for 2 × A100: in use or booked until 09:00." in notes(page, first)
    assert "no estimate yet" in notes(page, second)
    assert "None of your jobs runs, 2 wait." in text(page)


def test_what_runs_comes_first_by_its_end(rows: Rows, visit: Visit):
    late, waits, soon = rows.add(name="late", hours=9), rows.add(name="waits"), rows.add(name="soon", hours=1)
    for one in (late, soon):
        rows.attempt(one, "gpu-a")
    page = visit().get("jobs")
    assert re.findall(r'class="job-row" id="job-(\w+)"', page) == [soon.id, late.id, waits.id]
    assert "running soon A100 on gpu-a until 08:50" in notes(page, soon)


def test_what_runs_is_on_the_first_page_however_many_wait(rows: Rows, visit: Visit):
    runs = rows.add(name="runs", created_at=NOW - HOUR)
    rows.attempt(runs)
    made = {rows.add(name=f"job-{n}", created_at=NOW - n).id for n in range(70)}
    visitor = visit()
    first = re.findall(r'class="job-row" id="job-(\w+)"', visitor.get("jobs"))
    more = re.search(r'<a href="([^"]+)" rel="next">', visitor.answer.text)
    assert first[0] == runs.id and more is not None
    rest = visitor.get(more[1].replace("&amp;", "&").removeprefix(PREFIX))
    rest_ids = re.findall(r'class="job-row" id="job-(\w+)"', rest)
    assert sorted([*first[1:], *rest_ids]) == sorted(made)


def test_of_others_jobs_nobody_sees_more_than_what_they_take(rows: Rows, visit: Visit):
    theirs = rows.add("ben", name="secret-idea")
    rows.attempt(theirs, ended_at=NOW, reason="out_of_memory", exit_status=1, message="private-words")
    rows.end(theirs, outcome="failed", reason="out_of_memory", message="private-words")
    waits = rows.add("ben", name="secret-plan", units=3)
    rows.outlook[waits.id] = Outlook(NOW + HOUR, Why("quota", quota=3))
    for state in ("all", "open", "ended"):
        page = visit().get(f"jobs?show=everybody&state={state}")
        assert not re.search(r"secret|private|memory|quota|may take", page)
    assert "ended a job of ben A100" in notes(visit().get("jobs?show=everybody&state=all"), theirs)
    assert "waiting a job of ben 3 × A100 starts about 09:00" in notes(visit().get("jobs?show=everybody"), waits)
    assert "secret-idea" in visit("admin-token").get("jobs?show=everybody&state=all")


def test_where_owners_are_hidden_jobs_have_none(rows: Rows, app: RunningApp, visit: Visit):
    app.context.settings = app.settings = type(app.settings)(rate=0, show_owners=False)
    rows.add("ben")
    page = visit().get("jobs?show=everybody")
    assert "a job A100" in text(page) and "ben" not in text(page)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("open", "waits runs starts"),
        ("queued", "waits"),
        ("running", "runs starts"),
        ("ended", "gone"),
        ("all", "waits runs starts gone"),
        ("nonsense", "waits runs starts"),
    ],
)
def test_the_list_is_narrowed_by_state(rows: Rows, visit: Visit, state: str, shown: str):
    rows.add(name="waits")
    rows.attempt(rows.add(name="runs"))
    rows.attempt(rows.add(name="starts"), started_at=None)
    over(rows, "gone")
    page = visit().get(f"jobs?state={state}")
    assert set(re.findall(r'<a href="[^"]*/jobs/\w+">(\w+)</a>', page)) == set(shown.split())


def test_many_jobs_are_shown_page_by_page_and_none_twice(rows: Rows, visit: Visit):
    made = {rows.add(name=f"job-{n}", created_at=NOW - n).id for n in range(120)}
    visitor, seen = visit(), []
    page = visitor.get("jobs?state=all")
    while True:
        seen += re.findall(r'class="job-row" id="job-(\w+)"', page)
        more = re.search(r'<a href="([^"]+)" rel="next">', page)
        if more is None:
            break
        page = visitor.get(more[1].replace("&amp;", "&").removeprefix(PREFIX))
    assert sorted(seen) == sorted(made)


def test_a_waiting_job_is_cancelled_by_one_click_and_submitted_again_by_another(rows: Rows, visit: Visit):
    job, visitor = rows.add(name="mistake", code=None, manifest={"script": None, "command": ["true"]}), visit()
    visitor.get("jobs")
    page = visitor.press(f"jobs/{job.id}/cancel")
    assert "Cancelled: mistake." in text(page) and rows.find(job).outcome == "cancelled"
    page = visitor.press(f"jobs/{job.id}/resubmit")
    assert "Submitted again" in text(page) and "waiting" in text(page)
    assert job.id not in visitor.answer.url.path


def test_a_running_job_is_asked_to_end_and_the_page_says_what_that_means(rows: Rows, visit: Visit):
    job, visitor = rows.add(name="long"), visit()
    attempt = rows.attempt(job)
    assert "It gets 1 min to write a checkpoint." in text(visitor.get(f"jobs/{job.id}"))
    page = visitor.press(f"jobs/{job.id}/cancel")
    assert "It is asked to end" in text(page)
    assert rows.find(job).live is not None and rows.find(job).cancel_asked_at == NOW
    rows.change_attempt(attempt, stopping_at=NOW)
    assert "It was cancelled: it may still write its checkpoint" in text(visitor.get(f"jobs/{job.id}"))
    assert "/cancel" not in visitor.answer.text


def test_a_refusal_is_said_on_the_page(rows: Rows, visit: Visit):
    job, _ = over(rows)
    visitor = visit()
    visitor.get(f"jobs/{job.id}")
    page = visitor.press(f"jobs/{job.id}/resubmit")
    assert visitor.answer.status_code in (400, 404, 409) and 'id="refusal"' in page and "old" in page


def test_without_the_right_to_book_there_are_no_buttons(rows: Rows, visit: Visit):
    job = rows.add()
    for path in ("jobs", f"jobs/{job.id}"):
        assert f"{job.id}/cancel" not in visit("reader-token").get(path)


def test_where_jobs_are_off_the_page_says_so(app: RunningApp, rows: Rows, visit: Visit):
    job, _ = over(rows)
    app.context.jobs = None
    page = visit().get("jobs?state=all")
    assert "switched them off" in page and "c.MLMP.jobs = True" in page and notes(page, job)
    assert "mlmp job run" not in page and "mlmp job run" not in visit().get("jobs?state=open")
    page = visit().get(f"jobs/{job.id}")
    assert "Logs are not shown while no jobs run here" in page and "/resubmit" not in page


def test_where_jobs_are_off_logs_and_numbers_of_those_that_ran_are_shown(app: RunningApp, rows: Rows, visit: Visit):
    job = rows.add()
    attempt = rows.attempt(job, ended_at=NOW, reason="succeeded", log="epoch 20\n")
    rows.measured(attempt, [(NOW + n, n, {"loss": 1.0 / (1 + n)}) for n in range(3)])
    rows.end(job, outcome="succeeded", reason="succeeded")
    app.context.jobs, app.context.former_jobs = None, rows.jobs
    page = visit().get(f"jobs/{job.id}")
    assert "epoch 20" in page and 'id="metrics-table"' in page and "/resubmit" not in page
    assert visit().get(f"jobs/{job.id}/log") == "epoch 20\n"


# -- one job ------------------------------------------------------------------------------------------------------


def test_a_job_shows_why_it_failed_and_what_can_be_done(rows: Rows, visit: Visit):
    job = rows.add(name="big")
    rows.attempt(job, ended_at=NOW, reason="out_of_memory", exit_status=137, log="Killed\n")
    rows.end(job, outcome="failed", reason="out_of_memory", exit_status=137, message="It used all of 16 GiB.")
    page = text(visit().get(f"jobs/{job.id}"))
    assert "failed A100" in page and "It ran out of memory. Smaller batches need less memory" in page
    assert "It used all of 16 GiB." in page and "Killed" in page


def test_a_job_that_made_way_says_so_and_shows_each_try(rows: Rows, visit: Visit):
    job = rows.add(name="patient")
    rows.attempt(job, "gpu-a", ended_at=NOW - MINUTE, reason="preempted", log="first\n")
    page = text(visit().get(f"jobs/{job.id}"))
    assert "Try 1 is over: it made way for a booking." in page
    rows.attempt(job, "gpu-b", started_at=NOW, log="second\n")
    visitor = visit()
    assert OF_A_LOG.findall(visitor.get(f"jobs/{job.id}")) == ["second\n"]
    assert "Log of try 2" in text(visitor.answer.text) and "It made way for a booking" in text(visitor.answer.text)
    assert OF_A_LOG.findall(visitor.get(f"jobs/{job.id}?attempt=1")) == ["first\n"]


def test_a_try_without_a_log_says_so_and_still_shows_what_it_used(rows: Rows, visit: Visit):
    job = rows.add()
    attempt = rows.attempt(job, ended_at=NOW, reason="succeeded")
    rows.used(attempt, [(NOW + n, None, {"memory": 2.0**30}) for n in range(3)])
    page = visit().get(f"jobs/{job.id}")
    assert "It printed nothing, or its log is not kept any more." in page and "Memory. 1 GiB" in page


@pytest.mark.parametrize(("first", "way"), [("", "Earlier"), ("?from=0", "Later")])
def test_a_log_of_many_pages_is_read_both_ways_with_nothing_lost(rows: Rows, visit: Visit, first: str, way: str):
    lines = [f"line {n} grün\n" for n in range(60_000)]
    job = rows.add()
    rows.attempt(job, ended_at=NOW, reason="succeeded", log="".join(lines))
    visitor, parts, path = visit(), [], f"jobs/{job.id}{first}"
    while path:
        page = visitor.get(path)
        parts.append(OF_A_LOG.findall(page)[0])
        assert len(parts[-1].encode()) <= SHOWN + 1
        link = re.search(rf'<a href="([^"]+)#log-head">{way}</a>', page)
        path = link[1].replace("&amp;", "&").removeprefix(PREFIX) if link else ""
    assert len(parts) == 4
    assert set("".join(parts).splitlines()) == {line.rstrip("\n") for line in lines}


def test_a_log_is_downloaded_as_it_was_printed(rows: Rows, visit: Visit):
    printed = "".join(f"\x1b[31mline {n}\x1b[0m\r\n" for n in range(100_000))
    job = rows.add()
    rows.attempt(job, ended_at=NOW, reason="succeeded", log=printed)
    visitor = visit()
    visitor.get(f"jobs/{job.id}/log")
    assert visitor.answer.content == printed.encode()
    assert f"{job.id}-1.log" in visitor.answer.headers["Content-Disposition"]


@pytest.mark.parametrize(
    "query", ["attempt=9", "attempt=x", "from=-3", "from=99999999999999", "from=x", "did=nonsense"]
)
def test_a_strange_query_shows_the_job_all_the_same(rows: Rows, visit: Visit, query: str):
    job = rows.add(name="fine")
    rows.attempt(job, log="words\n")
    visitor = visit()
    assert "fine" in visitor.get(f"jobs/{job.id}?{query}") and visitor.answer.status_code == 200


def test_what_is_measured_is_drawn_said_and_in_a_table(rows: Rows, visit: Visit):
    job, _ = over(rows, lr=0.5)
    page = visit().get(f"jobs/{job.id}")
    assert 'aria-label="loss. 0.52 at step 49, between 0.52 and 1.5"' in page
    assert '<td class="number" data-label="Least">0.52</td>' in page
    assert "style=" not in page.partition('id="live"')[2], "the policy would refuse it"


def test_what_is_used_is_drawn_for_the_try_whose_log_is_shown(rows: Rows, visit: Visit):
    job = rows.add()
    first = rows.attempt(job, ended_at=NOW, reason="preempted")
    rows.used(first, [(NOW + n * 10_000, None, {"gpu": 50.0}) for n in range(5)])
    rows.used(
        rows.attempt(job, "gpu-b"), [(NOW + n * 10_000, None, {"memory": 2.0**31, "cpu": 3.5}) for n in range(5)]
    )
    visitor = visit()
    assert "Processor cores. 3.5 at 40 s" in visitor.get(f"jobs/{job.id}")
    assert "Memory. 2 GiB at 40 s" in visitor.get(f"jobs/{job.id}") and "GPU. " not in visitor.answer.text
    assert "GPU. 50 % at 40 s" in visitor.get(f"jobs/{job.id}?attempt=1")


def test_the_manifest_is_shown_as_it_would_be_written(rows: Rows, visit: Visit):
    job = rows.add(manifest={"arguments": ["--lr", "0.1"], "retries": 2})
    page = text(visit().get(f"jobs/{job.id}"))
    assert "script: train.py" in page and "retries: 2" in page and "grace" not in page.partition("script:")[2]
    assert f"~/mlmp-jobs/{job.id}/checkpoints" in page


def test_an_admin_sees_how_it_is_and_nothing_that_it_printed_or_measured(rows: Rows, visit: Visit):
    job = rows.add(name="theirs", manifest={"environment": {"NAME": "value-of-it"}})
    attempt = rows.attempt(job, log="printed-words\n")
    rows.measured(attempt, [(NOW, 1, {"metric_name": 1.0})])
    admin = visit("admin-token")
    page = admin.get(f"jobs/{job.id}")
    assert "running" in page and "theirs" in page and f"jobs/{job.id}/cancel" in page
    assert not re.search("printed-words|metric_name|value-of-it", page)
    admin.get(f"jobs/{job.id}/log")
    assert admin.answer.status_code == 404


def test_a_job_of_somebody_else_is_refused_with_all_of_its_pages(rows: Rows, visit: Visit):
    job = rows.add(name="private")
    rows.attempt(job, log="private\n")
    visitor = visit("ben-token")
    for path in (f"jobs/{job.id}", f"jobs/{job.id}/log"):
        assert "private" not in visitor.get(path) and visitor.answer.status_code in (403, 404)
    for action in ("cancel", "resubmit"):
        visitor.get("jobs")
        sent = {"_xsrf": re.findall(r'data-xsrf="([^"]+)"', visitor.answer.text)[0]}
        visitor.post(f"{PREFIX}jobs/{job.id}/{action}", sent)
        assert visitor.answer.status_code in (403, 404) and "private" not in visitor.answer.text
    assert rows.find(job).cancel_asked_at is None


def test_no_word_of_a_user_becomes_markup(rows: Rows, visit: Visit):
    job = rows.add(name=HOSTILE, manifest={"arguments": [HOSTILE], "environment": {"A": HOSTILE}}, group=HOSTILE)
    attempt = rows.attempt(job, ended_at=NOW, reason="exit_status", exit_status=1, log=HOSTILE, message=HOSTILE)
    rows.measured(attempt, [(NOW, 1, {HOSTILE: 1.0}), (NOW, 2, {HOSTILE: 2.0})])
    rows.end(job, outcome="failed", reason="exit_status", exit_status=1, message=HOSTILE)
    other, _ = over(rows, HOSTILE)
    for path in ("jobs?state=all", f"jobs/{job.id}", f"jobs/compare?job={job.id}&job={other.id}"):
        page = visit().get(path)
        assert "<script>alert" not in page and EVALUATED not in page and HOSTILE in text(page).replace("  ", " ")


# -- several ------------------------------------------------------------------------------------------------------


def test_jobs_are_compared_by_what_differs_and_what_they_measured(rows: Rows, visit: Visit):
    made = [over(rows, f"run-{n}", lr=n / 10)[0] for n in (1, 2, 3)]
    page = visit().get("jobs/compare?" + "&".join(f"job={job.id}" for job in made))
    assert len(re.findall(r'<path class="job-line job-look-\d job-dash-\d" data-number', page)) == 3
    said = text(page)
    assert "--lr 0.1 0.2 0.3" in said and "loss, last 0.12 0.22 0.32" in said
    differs, same = said.split("The same in all")
    assert "--fast" not in differs and "--fast yes" in same


def test_a_job_is_left_out_of_the_comparison_by_its_link(rows: Rows, visit: Visit):
    made = [over(rows, f"run-{n}")[0] for n in (1, 2, 3)]
    page = visit().get("jobs/compare?" + "&".join(f"job={job.id}" for job in made))
    link = re.search(r'<a class="job-remove small" href="([^"]+)"', page)
    assert link is not None
    left = parse_qs(urlsplit(link[1].replace("&amp;", "&")).query)["job"]
    assert left == [job.id for job in made[1:]]


def test_jobs_of_others_are_not_compared(rows: Rows, visit: Visit):
    mine, theirs = over(rows, "mine")[0], over(rows, "theirs")[0]
    rows.change(theirs, owner="ben", owner_id=2)
    page = visit().get(f"jobs/compare?job={mine.id}&job={theirs.id}")
    assert "theirs" not in page and 'id="none"' in page


def test_too_many_or_none_to_compare_say_what_to_do(rows: Rows, visit: Visit):
    visitor = visit()
    assert 'id="none"' in visitor.get("jobs/compare") and visitor.answer.status_code == 200
    page = visitor.get("jobs/compare?" + "&".join(f"job={'a' * 9}{n}" for n in range(MOST + 1)))
    assert visitor.answer.status_code == 400 and f"choose {MOST} at most" in page


def test_pages_of_jobs_are_reached_from_every_page(rows: Rows, app: RunningApp, ann: httpx.Client):
    with app.client("ann-token", Accept="text/html") as client:
        assert f'href="{PREFIX}jobs"' in client.get(app.url + PREFIX).text
        app.context.jobs = None
        assert f'href="{PREFIX}jobs"' not in client.get(app.url + PREFIX).text
