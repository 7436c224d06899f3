"""The whole way on a cluster, through the proxy with a browser: book a GPU of a node, work on it, be stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import browser, complaints, new_page  # noqa: F401 -- its fixtures
from tests.browser.people import Human
from tests.cluster.release import RESOURCE, Release

LASTS = 60


def test_from_login_to_the_end_of_a_booking_on_node_b(release: Release, new_page: Callable[..., Page]) -> None:  # noqa: F811
    node = release.cluster.nodes[1]
    zoe = Human(new_page(), release.url, "zoe", password=release.user_password)
    zoe.go("book")
    zoe.say(profile="gpu", node=node, duration=f"{LASTS}s")
    zoe.book()
    expect(zoe.page.locator("#live")).to_contain_text("ready to start")
    end = zoe.times("[data-booking]")[0]
    zoe.start()

    (booking,) = (
        release.api("zoe").api.get("/services/mlmp/api/v1/reservations?owner=zoe&state=active").json()["items"]
    )
    pod = release.pod_of(booking)
    assert pod is not None
    assert pod.spec.node_name == node
    (server,) = [one for one in pod.spec.containers if one.name == "notebook"]
    assert server.resources.limits[RESOURCE] == "1"
    assert zoe.run("import os; print(os.environ['MLMP_NODE'])") == node

    gone = release.wait_gone(booking, end - time.time() + 15)
    assert gone > end - 10
