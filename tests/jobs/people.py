"""Somebody who submits jobs to a real ``mlmp up``, by its API."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import Any

import httpx

from tests.live import Person, wait_for

API = "/services/mlmp/api/v1/jobs"


class Submitter:
    """A person and their jobs."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.api = person.api

    def code(self, **files: str) -> str:
        """Sends a snapshot with these files (``train_py="…"`` is ``train.py``); its SHA-256."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(".".join(name.rsplit("_", 1)))
                member.size, member.mode = len(content.encode()), 0o644
                archive.addfile(member, io.BytesIO(content.encode()))
        sha256 = hashlib.sha256(packed.getvalue()).hexdigest()
        answer = self.api.put(f"{API}/code/{sha256}", content=packed.getvalue())
        assert answer.status_code in (200, 201, 204), answer.text
        return sha256

    def submit(self, *, code: str | None = None, values: dict[str, str] | None = None, **manifest: Any) -> str:
        """Submits a job; its id. ``values``: of its secrets."""
        said = {"profile": "gpu", "hours": 1, "secrets": list(values or ()), **manifest}
        body = {"manifest": said, "code": code, "secrets": values or {}}
        answer = self.api.post(API, json={name: value for name, value in body.items() if value is not None})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def look(self, job: str) -> dict[str, Any]:
        """The job as the API shows it."""
        answer = self.api.get(f"{API}/{job}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def until(self, job: str, *states: str, seconds: float = 120) -> dict[str, Any]:
        """The job, once it is in one of these states."""

        def ask() -> dict[str, Any] | None:
            try:
                found = self.look(job)
            except (httpx.HTTPError, AssertionError):  # the service begins anew
                return None
            return found if found["state"] in states else None

        found: dict[str, Any] = wait_for(ask, seconds, f"{job}: {states}")
        return found

    def ended(self, job: str, *, seconds: float = 120) -> dict[str, Any]:
        """The job once it is over."""
        return self.until(job, "ended", seconds=seconds)

    def log(self, job: str) -> str:
        """What its last attempt printed, as far as it did."""
        answer = self.api.get(f"{API}/{job}/logs", params={"start": 0})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return str(found.get("text", found.get("data", "")))

    def printed(self, job: str, text: str) -> str:
        """The log, once ``text`` is in it."""
        found: str = wait_for(lambda: text in (log := self.log(job)) and log, 120, f"{text!r} in the log of {job}")
        return found

    def cancel(self, job: str) -> None:
        """Ends it."""
        answer = self.api.delete(f"{API}/{job}")
        assert answer.status_code in (200, 204), answer.text
