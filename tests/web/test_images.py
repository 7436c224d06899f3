"""Images on nodes: the page and the calls of who runs courses; nothing of it on one machine."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from mlmp_spawner.errors import NotFound, Unavailable
from mlmp_spawner.operations.image_states import Look
from mlmp_spawner.units import MINUTE, to_iso
from tests.operations.conftest import NOW
from tests.web.harness import PREFIX, PlayedImages, RunningApp
from tests.web.visitor import LAB, Visitor, images_on_nodes, text


@pytest.fixture
def images(app: RunningApp) -> PlayedImages:
    """See :func:`~tests.web.visitor.images_on_nodes`."""
    return images_on_nodes(app)


def test_the_api_tells_which_image_is_on_which_node(app: RunningApp, images: PlayedImages, admin: httpx.Client):
    body = admin.get("images").json()
    assert body["nodes"] == [{"name": "gpu-a", "away": None}, {"name": "gpu-b", "away": "cordoned in the cluster"}]
    assert (body["seen_at"], body["problem"]) == (to_iso(NOW), None)
    lab, torch = body["items"]
    assert (lab["name"], lab["reference"], lab["offered"]) == ("lab", LAB, ["gpu-a", "gpu-b"])
    assert [one["state"] for one in lab["nodes"]] == ["present", "queued"]
    assert lab["nodes"][1]["asked_by"] == "ben"
    assert [one["state"] for one in torch["nodes"]] == ["failed", "absent"]
    assert torch["nodes"][0]["problem"].startswith("manifest unknown")
    assert torch["nodes"][0]["retries"] is True
    assert torch["nodes"][0]["since"] == to_iso(NOW - MINUTE)


def test_an_image_is_asked_for_and_called_off(images: PlayedImages, admin: httpx.Client):
    assert admin.post("images/lab/preload", json={}).status_code == 202
    assert admin.post("images/lab/preload", json={"nodes": ["gpu-b"]}).status_code == 202
    assert admin.delete("images/lab/preload").status_code == 200
    assert admin.delete("images/lab/preload", params={"node": "gpu-b"}).status_code == 200
    assert images.asked == [
        ("ask", "lab", None, "root"),
        ("ask", "lab", ["gpu-b"], "root"),
        ("cancel", "lab", None, "root"),
        ("cancel", "lab", ["gpu-b"], "root"),
    ]


@pytest.mark.parametrize("body", [{"node": "gpu-a"}, {"nodes": "gpu-a"}, {"nodes": [1]}, {"nodes": [""]}, []])
def test_what_is_no_list_of_nodes_is_refused(images: PlayedImages, admin: httpx.Client, body: object):
    assert admin.post("images/lab/preload", json=body).status_code == 400
    assert images.asked == []


def test_on_one_machine_there_are_no_images(app: RunningApp, admin: httpx.Client, visit: Callable[[str], Visitor]):
    for answer in (
        admin.get("images"),
        admin.post("images/lab/preload", json={}),
        admin.delete("images/lab/preload"),
    ):
        assert answer.status_code == 404
        assert "processes of this machine" in answer.json()["detail"]
    root = visit("admin-token")
    assert f'href="{PREFIX}images"' not in root.get()
    assert "processes of this machine" in text(root.get("images"))
    assert root.answer.status_code == 404


def test_the_page_says_what_is_where_and_why_not(images: PlayedImages, visit: Callable[[str], Visitor]):
    page = visit("teacher-token").get("images")
    assert "<script>alert" not in page
    words = text(page)
    assert "gpu-b cordoned in the cluster: nothing is pulled now" in words
    assert "waits its turn" in words
    assert "failed; it is tried again" in words and "manifest unknown" in words
    assert "torch on 2 nodes" in words


def test_its_buttons_work_without_a_script(images: PlayedImages, visit: Callable[[str], Visitor]):
    ben = visit("teacher-token")
    ben.get("images")
    for sent in ({"step": "preload", "image": "torch", "node": "gpu-b"}, {"step": "preload", "image": "torch"}):
        token = ben.answer.text.partition('name="_xsrf" value="')[2].partition('"')[0]
        ben.post(f"{PREFIX}images", sent | {"_xsrf": token})
        assert ben.answer.status_code == 200
    ben.press("images")
    assert images.asked == [
        ("ask", "torch", ["gpu-b"], "ben"),
        ("ask", "torch", None, "ben"),
        ("ask", "torch", ["gpu-a"], "ben"),
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [(NotFound("There is no image 'x'.", hint="There is: lab."), 404), (Unavailable("The cluster is away."), 503)],
)
def test_a_refusal_is_shown_on_the_page(
    images: PlayedImages, visit: Callable[[str], Visitor], error: NotFound | Unavailable, status: int
):
    ben = visit("teacher-token")
    ben.get("images")
    images.refusal = error
    ben.press("images")
    assert ben.answer.status_code == status
    assert error.detail in text(ben.answer.text)
    assert "gpu-a" in text(ben.answer.text)


def test_while_something_is_pulled_the_page_looks_again_soon(images: PlayedImages, visit: Callable[[str], Visitor]):
    def next_look() -> int:
        return int(visit("teacher-token").get("images").partition('data-next="')[2].partition('"')[0]) - NOW

    assert next_look() <= 3000
    images.seen = Look(NOW, images.seen.nodes, ())
    assert next_look() == MINUTE


def test_what_was_seen_last_is_shown_while_the_cluster_is_away(images: PlayedImages, visit: Callable[[str], Visitor]):
    seen = images.seen
    images.seen = Look(seen.at, seen.nodes, seen.pods, problem="The Kubernetes cluster does not answer.")
    words = text(visit("teacher-token").get("images"))
    assert "The Kubernetes cluster does not answer. What follows was seen" in words
    assert "waits its turn" in words


def test_an_empty_catalog_says_how_to_begin(app: RunningApp, visit: Callable[[str], Visitor]):
    app.context.images = PlayedImages()
    assert "The catalog has no image yet" in text(visit("admin-token").get("images"))
