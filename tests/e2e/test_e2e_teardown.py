"""The end of the road: what `pulumi destroy` leaves of a stack. The last file of this folder, for nothing stands after it."""

from tests.support.e2e import Road


def test_destroy_leaves_nothing_of_the_lab_on_the_machine(road: Road, first_up: str) -> None:
    done = road.pulumi("destroy", "--yes", "--skip-preview")
    assert done.returncode == 0, done.stdout
    assert {kind: left for kind, left in road.left_overs().items() if left} == {}
