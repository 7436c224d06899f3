"""`mlmp job` where no jobs run: says so and what an admin does; what was there can be seen and cancelled."""

from __future__ import annotations

from mlmp_spawner.jobs.off import not_in_clusters
from tests.client.conftest import CommandLine
from tests.client.test_real_jobs import RUN, ann, app, code, site
from tests.client.test_real_service import done
from tests.web.harness import RunningApp

__all__ = ["ann", "app", "code", "site"]


def test_where_no_jobs_run_the_command_line_says_why_and_what_to_do(ann: CommandLine, app: RunningApp) -> None:
    first = done(ann(*RUN, "--json")).json["id"]
    app.context.jobs = None
    for words in (RUN, ("job", "resubmit", first)):
        refused = ann(*words)
        assert refused.status == 1 and refused.out == ""
        assert "switched them off" in refused.err and "c.MLMP.jobs = True" in refused.err
    refused = ann(*RUN, "--json")
    assert "jobs_off" in refused.out + refused.err
    assert first in done(ann("job", "ls")).out
    assert "Cancelled" in done(ann("job", "cancel", first)).out
    app.context.jobs_off = not_in_clusters
    assert "Kubernetes" in ann(*RUN).err
