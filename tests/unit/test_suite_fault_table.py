"""The table of faults: rows have names of their own, tests that it names exist, and what clients may lose is compared rightly.

That a fault has its message is a claim of tests/faults and of the tests that the table names.
"""

import ast
import collections
from pathlib import Path

import pytest

from tests.support import fault_table, inject

ROOT = Path(__file__).parents[2]
NAMED = [
    (row.fault, test) for row in fault_table.rows() if isinstance(row, fault_table.Elsewhere) for test in row.tested
]


@pytest.mark.parametrize(("fault", "test"), NAMED)
def test_a_test_that_the_table_names_exists(fault: str, test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert name in names, f"{fault}: correct `tested` in tests/faults/table"


def test_no_two_rows_have_one_name() -> None:
    twice = [name for name, count in collections.Counter(row.fault for row in fault_table.rows()).items() if count > 1]
    assert twice == []


def test_a_row_whose_clients_may_lose_something_says_what_they_see() -> None:
    assert [row.fault for row in fault_table.load() if row.loses and not row.client] == []


def test_the_other_node_has_something_to_finish_where_a_row_requires_it() -> None:
    idle = [row.fault for row in fault_table.load() if row.other and set(row.set) == {row.node}]
    assert idle == [], "give `all` a variable in `set`, or remove `other`"


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ('short after 0.4 s: 502 {"error": {\n}}', True),
        ('short after 0.4 s: 503 {"error": {\n}}', False),
        ("picture: 502 x", False),
    ],
)
def test_a_lost_request_is_compared_with_the_words_of_a_row(text: str, like: bool) -> None:
    assert inject.is_like("* after * s: 502 *", text) is like
