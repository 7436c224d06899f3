"""Images on their nodes before they are needed: what a look does, also after a crash, and what people ask for."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from traitlets.config import Config

from mlmp_spawner.errors import Invalid, NotFound, Unavailable
from mlmp_spawner.kube.preloading import Refused
from mlmp_spawner.operations import admission, changes, history
from mlmp_spawner.operations.admission import StartOptions
from mlmp_spawner.operations.booking import book
from mlmp_spawner.operations.changes import Changes
from mlmp_spawner.operations.image_states import states
from mlmp_spawner.operations.preload import REFUSED_FOR, Preloads, settings_of
from mlmp_spawner.operations.requests import BookingRequest
from mlmp_spawner.operations.site import Site
from mlmp_spawner.rules.catalog import Image
from mlmp_spawner.rules.preload import NodeImages, Pull, PullPod
from mlmp_spawner.rules.reservations import Reservation
from mlmp_spawner.settings import MLMP
from mlmp_spawner.units import HOUR, MINUTE
from tests.operations.conftest import NOW, ann

SOON = NOW + HOUR - 15 * MINUTE
"""As long before the booking of the tests as its image is pulled."""

LAB, TORCH = "example.org/lab:1", "example.org/torch:1"


class PlayedCluster:
    """Nodes and pods that do what they are told. ``down``: it does not answer; ``refuses``: why it takes no pod."""

    def __init__(self) -> None:
        self.has: dict[str, NodeImages] = {name: NodeImages(name) for name in ("gpu-a", "gpu-b")}
        self.there: dict[str, PullPod] = {}
        self.down = False
        self.refuses = ""
        self.created = 0
        self._names = count()

    async def nodes(self) -> dict[str, NodeImages]:
        if self.down:
            raise Unavailable("The Kubernetes cluster does not answer.")
        return dict(self.has)

    async def pods(self) -> list[PullPod]:
        return list(self.there.values())

    async def create(self, pull: Pull, *, asked_by: str = "") -> None:
        if self.refuses:
            raise Refused(pull.key, self.refuses)
        assert pull.key not in {pod.key for pod in self.there.values()}
        self.created += 1
        name = str(next(self._names))
        self.there[name] = PullPod(
            name, pull.node, pull.reference, "queued" if asked_by else "pulling", SOON, asked_by=asked_by
        )

    async def start(self, pod: PullPod, now: int) -> None:
        self.there[pod.name] = replace(pod, state="pulling", since=now)

    async def note(self, pod: PullPod, problem: str) -> None:
        self.there[pod.name] = replace(pod, noted=problem)

    async def claim(self, pod: PullPod, asked_by: str) -> None:
        self.there[pod.name] = replace(pod, asked_by=asked_by)

    async def delete(self, pod: PullPod) -> None:
        self.there.pop(pod.name, None)

    def becomes(self, node: str, state: str, **facts: object) -> None:
        """What the kubelet of a node says of the pods there."""
        for name, pod in self.there.items():
            if pod.node == node:
                self.there[name] = replace(pod, state=state, **facts)  # type: ignore[arg-type]

    @property
    def shown(self) -> list[tuple[str, str, str]]:
        return sorted((pod.node, pod.reference, pod.state) for pod in self.there.values())


@pytest.fixture
def pods(site: Site) -> Site:
    images = {"lab": Image(name="lab", reference=LAB), "torch": Image(name="torch", reference=TORCH)}
    gpu = site.catalog.profiles["gpu"].model_copy(update={"images": tuple(images)})
    catalog = site.catalog.model_copy(update={"images": images, "profiles": {"gpu": gpu}})
    return replace(site, images=True, catalog=catalog)


@pytest.fixture
def cluster() -> PlayedCluster:
    return PlayedCluster()


@pytest.fixture
def preloads(pods: Site, cluster: PlayedCluster) -> Preloads:
    return Preloads(lambda: pods, MLMP(), cluster)


def booked(site: Site, node: str = "gpu-b", **fields: object) -> Reservation:
    wanted: dict[str, object] = {"profile": "gpu", "start": NOW + HOUR, "duration": HOUR, "node": node} | fields
    return book(site, BookingRequest(**wanted), actor=ann, now=NOW)  # type: ignore[arg-type]


def there(site: Site, preloads: Preloads, image: str) -> dict[str, str]:
    (found,) = [one for one in states(site, preloads.last) if one.image.name == image]
    return {one.node: one.state for one in found.nodes}


async def test_the_image_of_a_booking_is_pulled_on_its_node_and_no_other(
    pods: Site, preloads: Preloads, cluster: PlayedCluster
):
    booked(pods, image="torch")
    await preloads.look(SOON - 1)
    assert cluster.shown == []
    await preloads.look(SOON)
    assert cluster.shown == [("gpu-b", TORCH, "pulling")]


async def test_a_look_that_is_repeated_after_a_crash_too_does_nothing_twice(
    pods: Site, preloads: Preloads, cluster: PlayedCluster
):
    booked(pods)
    await preloads.look(SOON)
    await preloads.look(SOON)
    await Preloads(lambda: pods, MLMP(), cluster).look(SOON)
    assert cluster.created == 1


async def test_a_moved_booking_pulls_on_its_new_node(pods: Site, preloads: Preloads, cluster: PlayedCluster):
    row = booked(pods)
    await preloads.look(SOON)
    changes.change(pods, row.id, Changes(node="gpu-a"), actor=ann, now=SOON)
    await preloads.look(SOON)
    assert cluster.shown == [("gpu-a", LAB, "pulling")]


async def test_a_cancelled_booking_ends_its_pull(pods: Site, preloads: Preloads, cluster: PlayedCluster):
    row = booked(pods)
    await preloads.look(SOON)
    changes.cancel(pods, row.id, actor=ann, now=SOON)
    await preloads.look(SOON)
    assert cluster.shown == []


async def test_nothing_is_pulled_for_a_server_that_runs(pods: Site, preloads: Preloads, cluster: PlayedCluster):
    booked(pods, start=None)
    admission.admit(pods, actor=ann, server="", options=StartOptions(), now=NOW)
    await preloads.look(NOW)
    assert cluster.shown == []


async def test_a_pull_that_is_done_is_cleared_away_when_the_node_tells_of_it(
    pods: Site, preloads: Preloads, cluster: PlayedCluster
):
    booked(pods)
    await preloads.look(SOON)
    cluster.becomes("gpu-b", "pulled", over_at=SOON)
    await preloads.look(SOON + MINUTE)
    assert there(pods, preloads, "lab") == {"gpu-a": "absent", "gpu-b": "present"}
    cluster.has["gpu-b"] = NodeImages("gpu-b", images=frozenset({LAB}))
    await preloads.look(SOON + 2 * MINUTE)
    assert (cluster.shown, cluster.created) == ([], 1)
    assert there(pods, preloads, "lab") == {"gpu-a": "absent", "gpu-b": "present"}


async def test_why_it_fails_is_written_on_the_pod_once(
    pods: Site, preloads: Preloads, cluster: PlayedCluster, caplog: pytest.LogCaptureFixture
):
    booked(pods)
    await preloads.look(SOON)
    for port in (39867, 33357):
        cluster.becomes("gpu-b", "failing", problem=f"not found: read udp 10.0.0.1:{port}")
        await preloads.look(SOON)
    (pod,) = cluster.there.values()
    assert pod.noted == "not found: read udp 10.0.0.1:39867"
    assert len(caplog.records) == 1
    assert there(pods, preloads, "lab")["gpu-b"] == "failed"


async def test_while_the_cluster_does_not_answer_what_was_seen_is_kept_with_the_reason(
    pods: Site, preloads: Preloads, cluster: PlayedCluster, caplog: pytest.LogCaptureFixture
):
    booked(pods)
    seen = await preloads.look(SOON)
    cluster.down = True
    for _ in range(3):
        last = await preloads.look(SOON + MINUTE)
        assert (last.at, last.pods) == (SOON, seen.pods)
        assert last.problem == "The Kubernetes cluster does not answer."
    assert len(caplog.records) == 1
    cluster.down = False
    assert (await preloads.look(SOON + MINUTE)).problem == ""


async def test_what_the_cluster_refuses_is_told_and_tried_again_later(
    pods: Site, preloads: Preloads, cluster: PlayedCluster
):
    booked(pods)
    cluster.refuses = "exceeded quota: pods=0"
    await preloads.look(SOON)
    (found, _) = states(pods, preloads.last)
    assert [(one.state, one.problem) for one in found.nodes if one.node == "gpu-b"] == [
        ("failed", "exceeded quota: pods=0")
    ]
    cluster.refuses = ""
    await preloads.look(SOON + REFUSED_FOR - 1)
    assert cluster.created == 0
    await preloads.look(SOON + REFUSED_FOR)
    assert there(pods, preloads, "lab")["gpu-b"] == "pulling"


# -- by hand ---------------------------------------------------------------------------------------------------------


async def test_asked_for_without_a_node_it_is_wanted_wherever_a_profile_offers_it(
    preloads: Preloads, cluster: PlayedCluster
):
    await preloads.ask("torch", None, asked_by="root")
    assert cluster.shown == [("gpu-a", TORCH, "pulling"), ("gpu-b", TORCH, "pulling")]


async def test_it_is_not_asked_for_where_it_is(preloads: Preloads, cluster: PlayedCluster):
    cluster.has["gpu-a"] = NodeImages("gpu-a", images=frozenset({TORCH}))
    await preloads.ask("torch", None, asked_by="root")
    assert cluster.shown == [("gpu-b", TORCH, "pulling")]


async def test_what_is_asked_for_outlives_the_service(pods: Site, preloads: Preloads, cluster: PlayedCluster):
    cluster.has["gpu-a"] = NodeImages("gpu-a", away="cordoned in the cluster")
    await preloads.ask("torch", ["gpu-a"], asked_by="root")
    assert cluster.shown == [("gpu-a", TORCH, "queued")]
    another = Preloads(lambda: pods, MLMP(), cluster)
    await another.look()
    assert cluster.shown == [("gpu-a", TORCH, "queued")]
    cluster.has["gpu-a"] = NodeImages("gpu-a")
    await another.look()
    assert cluster.shown == [("gpu-a", TORCH, "pulling")]


async def test_who_asks_for_what_is_under_way_keeps_it_from_being_ended(
    pods: Site, preloads: Preloads, cluster: PlayedCluster
):
    row = booked(pods)
    await preloads.look(SOON)
    await preloads.calls.claim(next(iter(cluster.there.values())), "root")
    changes.cancel(pods, row.id, actor=ann, now=SOON)
    await preloads.look(SOON)
    assert cluster.shown == [("gpu-b", LAB, "pulling")]
    await preloads.ask("lab", ["gpu-b"], asked_by="ben")
    assert [pod.asked_by for pod in cluster.there.values()] == ["root"]


@pytest.mark.parametrize("state", ["failing", "failed"])
async def test_one_that_failed_can_be_asked_for_again_and_is_tried_at_once(
    preloads: Preloads, cluster: PlayedCluster, state: str
):
    await preloads.ask("lab", ["gpu-b"], asked_by="root")
    cluster.becomes("gpu-b", state, problem="not found")
    await preloads.ask("lab", ["gpu-b"], asked_by="root")
    assert (cluster.shown, cluster.created) == ([("gpu-b", LAB, "pulling")], 2)


async def test_it_can_be_called_off_on_one_node_or_on_all(preloads: Preloads, cluster: PlayedCluster):
    await preloads.ask("lab", None, asked_by="root")
    await preloads.ask("torch", None, asked_by="root")
    await preloads.cancel("lab", ["gpu-b"], asked_by="root")
    assert cluster.shown == [("gpu-a", LAB, "pulling"), ("gpu-a", TORCH, "pulling"), ("gpu-b", TORCH, "pulling")]
    await preloads.cancel("lab", None, asked_by="root")
    assert {reference for _, reference, _ in cluster.shown} == {TORCH}


async def test_who_asked_and_who_called_off_is_in_the_audit_log(pods: Site, preloads: Preloads):
    await preloads.ask("lab", ["gpu-b"], asked_by="root")
    await preloads.cancel("lab", ["gpu-b"], asked_by="ben")
    lines, _ = history.audit(pods.engine, history.Filter())
    mine = [line for line in lines if line.action.startswith("image_")]
    assert [(line.actor, line.action, line.details) for line in mine] == [
        ("ben", "image_called_off", {"image": "lab", "nodes": ["gpu-b"]}),
        ("root", "image_asked", {"image": "lab", "nodes": ["gpu-b"]}),
    ]


async def test_names_that_there_are_not_are_refused_with_the_valid_ones(preloads: Preloads, cluster: PlayedCluster):
    with pytest.raises(NotFound) as unknown:
        await preloads.ask("tprch", None, asked_by="root")
    assert unknown.value.hint == "There is: lab, torch."
    with pytest.raises(Invalid) as elsewhere:
        await preloads.ask("lab", ["gpu-a", "gpu-z"], asked_by="root")
    assert "valid: gpu-a, gpu-b" in str(elsewhere.value.data["errors"])
    with pytest.raises(Invalid):
        await preloads.cancel("lab", ["gpu-z"], asked_by="root")
    assert cluster.created == 0


async def test_while_the_cluster_does_not_answer_nothing_is_asked_for(preloads: Preloads, cluster: PlayedCluster):
    cluster.down = True
    with pytest.raises(Unavailable):
        await preloads.ask("lab", None, asked_by="root")
    assert cluster.created == 0


def test_pods_that_pull_have_the_pull_secrets_of_the_users_pods():
    config = Config()
    assert settings_of(MLMP(config=config)).secrets == ()
    config.KubeSpawner.image_pull_secrets = ["one", {"name": "two"}]
    assert settings_of(MLMP(config=config)).secrets == ("one", "two")
    config.MLMPKubeSpawner.image_pull_secrets = ["three"]
    assert settings_of(MLMP(config=config)).secrets == ("three",)
