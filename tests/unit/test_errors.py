"""The message of a failure: where, doing, seen, then wanted and next; nothing twice, nothing empty."""

import pytest

from fleet import errors


def test_a_message_has_where_doing_seen_wanted_and_next() -> None:
    error = errors.FleetError(
        node="prod-3",
        doing="docker: pull registry.example/vllm",
        seen="500 from the registry (3 tries)",
        wanted="the serving image, 31 GB",
        next="curl -I https://registry.example/v2/ from prod-3",
    )
    assert str(error) == (
        "prod-3: docker: pull registry.example/vllm: 500 from the registry (3 tries)\n"
        "  wanted: the serving image, 31 GB\n"
        "  next:   curl -I https://registry.example/v2/ from prod-3"
    )


def test_a_message_omits_absent_parts() -> None:
    assert str(errors.FleetError(seen="no replica serves")) == "no replica serves"


def test_a_message_indents_the_further_lines_of_a_part() -> None:
    error = errors.FleetError(node="prod-3", seen="it said\nno", next="this\nor that")
    assert str(error) == "prod-3: it said\n    no\n  next:   this\n          or that"


def test_a_mistake_in_a_stack_file_has_file_key_value_allowed_values_and_the_nearest() -> None:
    error = errors.SettingsError(
        file="stacks/Pulumi.prod.yaml",
        key="nodes.builder",
        value="prod-9",
        seen="no machine has this name",
        allowed="prod-1, prod-2",
        nearest="prod-2",
    )
    assert str(error) == (
        'stacks/Pulumi.prod.yaml: nodes.builder: "prod-9": no machine has this name\n'
        "  wanted: prod-1, prod-2\n"
        "  next:   did you mean prod-2?"
    )


def test_a_message_does_not_repeat_its_cause() -> None:
    with pytest.raises(errors.Unreachable) as caught:
        raise errors.Unreachable(node="prod-3", seen="connection refused") from OSError(111, "errno text")
    assert "errno text" not in str(caught.value)


@pytest.mark.parametrize("error", [errors.HostKeyMismatch, errors.LoginRefused])
def test_a_handler_of_unreachable_handles_its_kinds(error: type[errors.FleetError]) -> None:
    assert issubclass(error, errors.Unreachable)


def test_a_run_that_declares_nothing_has_no_partial_state() -> None:
    assert errors.ConvergeFailed(seen="broken").partial == {}


def test_the_docstring_of_the_module_draws_the_tree() -> None:
    classes = {name: thing for name, thing in vars(errors).items() if isinstance(thing, type)}
    tree = {name for name, thing in classes.items() if issubclass(thing, errors.FleetError)}
    words = {word for word in (errors.__doc__ or "").split() if word in classes}
    assert words == tree, "the docstring of fleet/errors.py draws each class in it"
