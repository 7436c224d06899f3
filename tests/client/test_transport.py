"""What is asked again, what is not, and what a stranger's answer becomes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest
import trustme

from mlmp_spawner.client.api import Client
from mlmp_spawner.client.config import Access
from mlmp_spawner.client.problems import NotReachable, NotSignedIn
from mlmp_spawner.errors import NoCapacity, NotFound, OverLimit, TooManyRequests, Unavailable
from tests.client.answers import ID, me, reservation
from tests.client.standin import Answer, StandIn, problem, serve

BUSY = problem(503, "unavailable", "The database is busy.")
PROXY = Answer(503, "<html>Service Unavailable</html>", {"Content-Type": "text/html"})
GONE = Answer(drop=True)


class Waits(list[float]):
    """Remembers the pauses instead of making them."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def client(server: StandIn, waits: Waits) -> Iterator[Client]:
    with Client(Access(server.url, "token"), sleep=waits) as client:
        yield client


@pytest.mark.parametrize("spelling", ["https:", "HTTPS:"])
def test_who_shows_no_good_certificate_is_told_nothing(spelling: str, waits: Waits) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with serve(tls) as server, Client(Access(server.url.replace("http:", spelling), "token"), sleep=waits) as client:
        with pytest.raises(NotReachable):
            client.me()
        assert server.asked == []


@pytest.mark.parametrize("trouble", [BUSY, PROXY, GONE, problem(429, "too_many_requests", "Slowly.")])
def test_reading_is_repeated_until_the_server_answers(client: Client, server: StandIn, trouble: Answer) -> None:
    server.on["GET me"] = [trouble, trouble, Answer(200, me())]
    assert client.me().name == "ann"


@pytest.mark.parametrize("trouble", [BUSY, PROXY, GONE])
def test_booking_is_repeated_under_the_same_key(client: Client, server: StandIn, trouble: Answer) -> None:
    server.on["POST reservations"] = [trouble, Answer(201, reservation())]
    assert client.book(profile="gpu", duration="4h").id == ID
    keys = {one.headers["idempotency-key"] for one in server.asked}
    assert len(server.asked) == 2
    assert len(keys) == 1


def test_two_bookings_have_two_keys(client: Client, server: StandIn) -> None:
    server.on["POST reservations"] = Answer(201, reservation())
    client.book(profile="gpu")
    client.book(profile="gpu")
    assert len({one.headers["idempotency-key"] for one in server.asked}) == 2


@pytest.mark.parametrize("trouble", [PROXY, GONE])
def test_an_extension_whose_answer_is_lost_is_not_repeated(client: Client, server: StandIn, trouble: Answer) -> None:
    server.on[f"POST reservations/{ID}/extend"] = [trouble, Answer(200, reservation())]
    with pytest.raises(NotReachable):
        client.extend(ID, "1h")
    assert len(server.asked) == 1


def test_an_extension_that_the_service_refused_as_busy_is_repeated(client: Client, server: StandIn) -> None:
    server.on[f"POST reservations/{ID}/extend"] = [BUSY, Answer(200, reservation())]
    assert client.extend(ID, "1h").id == ID


def test_the_pause_is_as_long_as_the_server_asks(client: Client, server: StandIn, waits: Waits) -> None:
    slowly = problem(429, "too_many_requests", "Slowly.")
    slowly.headers["Retry-After"] = "3"
    server.on["GET me"] = [slowly, Answer(200, me())]
    client.me()
    assert 3 <= waits[0] <= 4


def test_a_server_that_asks_for_a_long_pause_is_not_waited_for(client: Client, server: StandIn, waits: Waits) -> None:
    slowly = problem(429, "too_many_requests", "Come back tomorrow.")
    slowly.headers["Retry-After"] = "86400"
    server.on["GET me"] = slowly
    with pytest.raises(TooManyRequests, match="Come back tomorrow"):
        client.me()
    assert waits == []


def test_patience_ends_with_what_the_server_says(client: Client, server: StandIn, waits: Waits) -> None:
    server.on["GET me"] = BUSY
    with pytest.raises(Unavailable, match="The database is busy"):
        client.me()
    assert 10 < sum(waits) < 30
    assert len(waits) < 12


def test_the_person_is_told_once_that_it_waits(server: StandIn, waits: Waits) -> None:
    told: list[str] = []
    server.on["GET me"] = [BUSY, BUSY, BUSY, Answer(200, me())]
    with Client(Access(server.url, "token"), notice=told.append, sleep=waits) as client:
        client.me()
    assert len(told) == 1


def test_an_address_where_nobody_listens_is_given_up_soon(waits: Waits) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with (
            Client(Access(url, "token"), sleep=waits) as client,
            pytest.raises(NotReachable, match="does not answer"),
        ):
            client.me()
    assert sum(waits) < 6


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Answer(404, "<html>404</html>"), NotReachable, "There is no MLMP at"),
        (Answer(200, "<html>Welcome</html>"), NotReachable, "There is no MLMP at"),
        (Answer(302, None, {"Location": "https://login.example.org/?next=x"}), NotReachable, "login.example.org"),
        (Answer(200, ["not", "an", "object"]), NotReachable, "can't be understood"),
        (Answer(200, {"name": None}), None, ""),
        (Answer(401, "no"), NotSignedIn, "does not take this token"),
        (problem(401, "not_signed_in", "Sign in."), NotSignedIn, "Sign in."),
    ],
)
def test_what_is_not_mlmp_is_said_so(
    client: Client, server: StandIn, answer: Answer, error: type[Exception] | None, words: str
) -> None:
    server.on["GET me"] = answer
    if error is None:
        client.me()
        return
    with pytest.raises(error, match=words):
        client.me()


def test_a_refusal_is_the_servers_own_error_with_its_data(client: Client, server: StandIn) -> None:
    offered = [{"kind": "later", "request": {"profile": "gpu"}}]
    server.on["POST reservations"] = problem(409, "no_capacity", "Nothing.", hint="Wait.", alternatives=offered)
    with pytest.raises(NoCapacity) as refused:
        client.book(profile="gpu")
    assert (refused.value.detail, refused.value.hint) == ("Nothing.", "Wait.")
    assert refused.value.data["alternatives"] == offered


def test_a_refusal_of_a_newer_server_counts_by_its_status(client: Client, server: StandIn) -> None:
    server.on["GET me"] = problem(404, "brand_new", "Not that.")
    with pytest.raises(NotFound) as refused:
        client.me()
    assert refused.value.problem()["code"] == "brand_new"


def test_over_limit_is_not_merely_not_allowed(client: Client, server: StandIn) -> None:
    server.on["POST reservations"] = problem(403, "over_limit", "Too much.", limits=[])
    with pytest.raises(OverLimit):
        client.book(profile="gpu")


def test_listing_goes_on_until_the_last_page(client: Client, server: StandIn) -> None:
    pages = {None: ("a", "c1"), "c1": ("b", "c2"), "c2": ("c", None)}
    server.on["GET reservations"] = lambda asked: Answer(
        200,
        {
            "items": [reservation(id=pages[asked.query.get("cursor")][0])],
            "next_cursor": pages[asked.query.get("cursor")][1],
        },
    )
    assert [one.id for one in client.reservations()] == ["a", "b", "c"]


def test_an_id_stays_one_part_of_the_path(client: Client, server: StandIn) -> None:
    with pytest.raises(NotReachable):
        client.reservation("../../../hub/api/users/ann?x=1#y")
    assert server.asked[0].path.startswith("reservations/")


def test_the_address_of_a_server_is_a_web_address(client: Client, server: StandIn) -> None:
    for url in ("javascript:alert(1)", "file:///etc/passwd"):
        server.on[f"GET reservations/{ID}"] = Answer(200, reservation(url=url))
        with pytest.raises(NotReachable):
            client.server_url(client.reservation(ID))


def test_the_token_is_sent_and_never_shown(client: Client, server: StandIn) -> None:
    server.on["GET me"] = Answer(200, me())
    client.me()
    assert server.asked[0].headers["authorization"] == "Bearer token"
    assert "secret" not in repr(Access("http://x/", "secret"))
