"""Claims about the figures of the endpoint's benchmark: what is compared with what, and how it is printed."""

import os

import pytest

from tests.bench import endpoint
from tests.bench.__main__ import Bench

RESULTS = {
    endpoint.DIRECT: {"figures": [0.001, 0.002, 0.004], "cpu": 0.0005},
    endpoint.BOTH: {"figures": [0.002, 0.003, 0.009], "cpu": 0.002},
}


def test_each_way_is_compared_with_the_replica_itself() -> None:
    assert endpoint.compare(RESULTS)[endpoint.BOTH] == {
        **{"p50_ms": 3.0, "p99_ms": 9.0, "p50_more_ms": 1.0, "p99_more_ms": 5.0},
        **{"p50_ratio": 1.5, "cpu_ms": 2.0},
    }
    direct = endpoint.compare(RESULTS)[endpoint.DIRECT]
    assert (direct["p50_more_ms"], direct["p99_more_ms"], direct["p50_ratio"]) == (0.0, 0.0, 1.0)


def test_the_table_has_a_way_a_line_below_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 1.0, 1.0))
    rows = Bench()
    rows.compare("an answer", "p50 <= +1 ms", endpoint.compare(RESULTS), 0.5, LiteLLM="no answer")
    assert [" ".join(line.split()) for line in rows.table().splitlines()] == [
        "seconds load what (target)",
        "- 0.5-1.0 an answer (p50 <= +1 ms); LiteLLM: no answer",
        "p50 ms p99 ms p50 more p99 more p50 x CPU ms",
        "replica itself 2.00 4.00 0.00 0.00 1.00 0.50",
        "gateway and node proxy 3.00 9.00 1.00 5.00 1.50 2.00",
    ]


def test_a_machine_without_haproxy_gets_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint.shutil, "which", lambda name: None if name == "haproxy" else f"/bin/{name}")
    monkeypatch.setattr(endpoint.os, "geteuid", lambda: 0)
    rows = Bench()
    endpoint.measure(rows)
    assert [row["not_measured"] for row in rows.rows] == ["needs haproxy"]
    assert len(rows.table().splitlines()) == 2
