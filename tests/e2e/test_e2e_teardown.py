"""The end of the road: what `pulumi destroy` leaves of a stack. The last file of this folder, since it removes the stack."""

from tests.support.e2e import Road
from tests.support.environment import expect_success


def test_destroy_leaves_nothing_of_the_lab_on_the_machine(road: Road, first_up: str) -> None:
    expect_success(road.destroy())
    assert {kind: left for kind, left in road.left_overs().items() if left} == {}
