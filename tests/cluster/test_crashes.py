"""Parts of MLMP and of the cluster die at bad moments: what was acknowledged stays, what was half done is finished."""

from __future__ import annotations

import threading
import time
from collections import Counter

import httpx

from mlmp_spawner import units
from mlmp_spawner.kube import labels
from tests.cluster.release import API, Release
from tests.live import Person, wait_for

MANY = 20


def server_pods(release: Release) -> Counter[str]:
    """How many pods each booking has."""
    found = release.core.list_namespaced_pod(release.users, label_selector=f"{labels.KIND}={labels.SERVER}").items
    return Counter(pod.metadata.labels[labels.RESERVATION] for pod in found if pod.metadata.deletion_timestamp is None)


def kill(release: Release, part: str) -> None:
    """Its pod is deleted and gets no more than a second: a new one comes."""
    for pod in release.pods_of(part):
        release.core.delete_namespaced_pod(pod.metadata.name, release.namespace, grace_period_seconds=1)


def test_the_hub_is_killed_while_twenty_servers_run_or_start_and_none_is_lost_or_doubled(release: Release) -> None:
    booked = [release.book(f"user-{number}", 1200, profile="cpu") for number in range(MANY)]
    running, starting = booked[: MANY // 2], booked[MANY // 2 :]
    for one in running:
        release.start(one, wait=False)
    for one in running:
        release.wait_for_state(one, "running", 300)
    before = server_pods(release)
    uids = {one["id"]: release.pod_of(one).metadata.uid for one in running}
    for one in starting:
        release.start(one, wait=False)
    wait_for(lambda: len(server_pods(release)) > len(before), 60, "the first pods of those that start")

    kill(release, "hub")

    release.wait_ready("hub")
    for one in starting:
        if release.reservation(one)["server_state"] == "none":  # the hub died before it had begun
            release.start(one, wait=False)
    for one in booked:
        release.wait_for_state(one, "running", 300)
    pods = server_pods(release)
    assert set(pods) >= {one["id"] for one in booked}
    assert max(pods.values()) == 1
    assert {one["id"]: release.pod_of(one).metadata.uid for one in running} == uids, "a running server was replaced"
    person = release.api(running[0]["owner"])
    assert person.browser.get(f"/user/{person.name}/api").status_code == 200
    for one in booked:
        release.api(one["owner"]).api.delete(f"{API}/{one['id']}")
    wait_for(lambda: not set(server_pods(release)) & {one["id"] for one in booked}, 120, "the end of all servers")


def test_the_api_server_is_away_for_a_minute_in_the_middle_of_a_start_and_of_a_stop(release: Release) -> None:
    stopping = release.book("ann", 600)
    release.start(stopping)
    booked = release.book("ben", 600)
    release.start(booked, wait=False)
    answer = release.api("ann").api.post(f"{API}/{stopping['id']}/stop")
    assert answer.status_code < 300, answer.text

    release.cluster.api_server.stop()
    gone = time.monotonic()
    try:
        while time.monotonic() < gone + 60:
            answer = release.api("ann").api.get(API)
            assert answer.status_code == 200, f"pages and bookings need no cluster: {answer.text}"
            time.sleep(5)
    finally:
        release.cluster.api_server.start()

    # A kubelet may take a minute to look again, and each look may be what the next waits for.
    release.wait_gone(stopping, 180)
    release.wait_for_state(stopping, "none", 120)
    now = release.reservation(booked)
    if now["server_state"] == "none":
        release.start(booked, seconds=180)
    release.wait_for_state(booked, "running", 180)
    assert server_pods(release)[booked["id"]] == 1
    for one in (stopping, booked):
        release.api(one["owner"]).api.delete(f"{API}/{one['id']}")
    release.wait_gone(booked, 180)


def test_the_database_is_restarted_under_load_and_no_acknowledged_booking_is_lost(release: Release) -> None:
    acknowledged: list[str] = []
    answers: Counter[int] = Counter()
    over = threading.Event()
    people = [release.api(f"booker-{number}") for number in range(4)]

    def books(number: int) -> None:
        hour = 24
        while not over.is_set():
            hour += 1
            try:
                answer = people[number].try_to_book(0, profile="cpu", **_at(hour))
            except httpx.HTTPError:
                answers[0] += 1
                continue
            answers[answer.status_code] += 1
            if answer.status_code == 201:
                acknowledged.append(answer.json()["id"])

    threads = [threading.Thread(target=books, args=[number]) for number in range(len(people))]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(acknowledged) >= 10, 60, "the first bookings")
        kill(release, "postgresql")
        release.wait_ready("postgresql")
        back = len(acknowledged)
        wait_for(lambda: len(acknowledged) > back + 10, 60, "bookings after the database came back")
    finally:
        over.set()
        for thread in threads:
            thread.join()

    print(dict(answers))
    assert set(answers) <= {201, 503}, answers
    assert answers[503], "nothing was asked while it was away"
    kept = {one for person in people for one in _ids_of(person)}
    assert set(acknowledged) <= kept
    for person in people:
        for one in _ids_of(person):
            person.api.delete(f"{API}/{one}")


def _at(hour: int) -> dict[str, str]:
    start = units.now() + hour * units.HOUR
    return {"start": units.to_iso(start), "end": units.to_iso(start + 30 * units.MINUTE)}


def _ids_of(person: Person) -> list[str]:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        asked = {"owner": person.name, "state": "booked", "limit": 100} | ({"cursor": cursor} if cursor else {})
        answer = person.api.get(API, params=asked)
        assert answer.status_code == 200, answer.text
        found += [one["id"] for one in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
    return found
