"""Which refusals of a hub are final, and which requests the fetch repeats, after which pauses (fleet/weights_fetcher/hub.py, download.py)."""

import datetime
import email.utils
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.weights_fetcher import download
from fleet.weights_fetcher import hub as hub_client
from fleet.weights_fetcher import model as model_folder
from tests.support import weights_hub
from tests.support.weights_hub import REPOSITORY, REVISION, SMALL, Hub, Node

Wrong, Later = model_folder.Wrong, hub_client.Later
NOW = datetime.datetime(2026, 11, 29, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def client(hub: Hub) -> Any:
    return hub_client.Hub(hub.url, REPOSITORY, REVISION, "")


class Clock:
    """A stand-in for time and for the event that ends a pause: it ends every pause at once, and records it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.pauses = 1000.0, list[float]()
        monkeypatch.setattr(download.time, "monotonic", lambda: self.now)

    def wait(self, pause: float) -> bool:
        self.pauses.append(pause)
        self.now += pause
        return False

    def is_set(self) -> bool:
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 416, 451])
def test_a_refusal_that_time_does_not_change_is_final(hub: Hub, client: Any, status: int) -> None:
    hub.status = status
    with pytest.raises(Wrong, match=f"/tree/{REVISION}: {status} Faulty"):
        client.tree()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
def test_a_request_that_may_succeed_later_is_repeated(hub: Hub, client: Any, status: int) -> None:
    hub.refusals = [(status, "7")]
    with pytest.raises(Later) as caught:
        client.tree()
    assert caught.value.pause == 7
    assert len(client.tree()) == 4


def test_the_list_of_files_is_requested_again_too(node: Node, hub: Hub) -> None:
    hub.refusals = [(503, "1")]
    process = node.fetch()
    assert process.returncode == 0
    url = f"{hub.url}/api/models/{REPOSITORY}/tree/{REVISION}"
    assert f"the list of files: {url}: 503 Faulty; again in 1 s" in process.stdout


def test_an_expired_signed_address_is_requested_again(hub: Hub, client: Any) -> None:
    """The storage of a hub refuses an address an hour after its signature; its answer is not the hub's."""
    with weights_hub.serve() as storage:
        storage.files, hub.storage = hub.files, f"{storage.url}/signed"
        storage.status = 403
        with pytest.raises(Later, match=r"/signed/.*: 403 Faulty, to which the hub redirects"):
            client.file(SMALL, 0)
        storage.status = 0
        with client.file(SMALL, 0) as answer:
            assert answer.read() == hub.files[SMALL]
    assert len(hub.log) == 2


def test_no_message_has_the_signature_of_an_address() -> None:
    assert hub_client.public("https://me:word@cdn.example/a?X-Amz-Signature=secret#x") == "https://cdn.example/a"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 0 ", 0),
        ("999999999", 300),
        (email.utils.format_datetime(NOW + datetime.timedelta(seconds=90), usegmt=True), 90),
        (email.utils.format_datetime(NOW - datetime.timedelta(days=1), usegmt=True), 0),
        (email.utils.format_datetime(NOW + datetime.timedelta(days=1), usegmt=True), 300),
        ("Sun, 29 Nov 2026 12:00:20", 20),
        ("", 0),
        ("-5", 0),
        ("soon", 0),
        ("٣", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_more_than_five_minutes(value: str, seconds: float) -> None:
    assert hub_client.retry_after(value, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_a_pause_of_at_most_five_minutes(value: str) -> None:
    assert 0 <= hub_client.retry_after(value, NOW) <= 300


def test_the_fetch_gives_up_after_a_time_and_not_after_a_number_of_tries(clock: Clock) -> None:
    patience = download.Patience(900, clock)
    while clock.now < 1900:
        patience.wait(SMALL, OSError("refused"))
    with pytest.raises(Wrong, match=r"^config.json: refused \(900 s without a byte\)$"):
        patience.wait(SMALL, OSError("refused"))
    assert clock.pauses[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert clock.now == 1900


def test_a_new_byte_restarts_the_time(clock: Clock) -> None:
    patience = download.Patience(10, clock)
    for _ in range(4):
        patience.wait(SMALL, Later("busy", 9))
        patience.reset()
    assert clock.pauses == [9] * 4


def test_a_pause_is_as_long_as_the_server_requests_up_to_five_minutes(clock: Clock) -> None:
    patience = download.Patience(900, clock)
    patience.wait(SMALL, Later("busy", 200))
    patience.wait(SMALL, Later("busy", 100_000))
    assert clock.pauses == [200, 300]


def test_the_fetch_of_the_other_files_does_not_wait_after_a_failure() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Wrong):
        download.Patience(900, stop).wait(SMALL, OSError("refused"))
