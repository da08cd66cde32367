"""The controller reads references as the nodes do: fleet/upstream/reference.py by the table of tests/support/image_references.py."""

import re

import pytest

from fleet import validators
from fleet.upstream import reference as grammar
from tests.support import image_references


@pytest.mark.parametrize(("name", "right"), image_references.TAGS.items())
def test_a_name_has_the_grammar_of_references(name: str, right: bool) -> None:
    assert bool(grammar.TAGGED.fullmatch(name)) is right


@pytest.mark.parametrize(("digest", "right"), image_references.DIGESTS.items())
def test_a_digest_is_sha256_and_64_hex_digits(digest: str, right: bool) -> None:
    assert bool(re.fullmatch(validators.DIGEST, digest)) is right
    assert (validators.IMAGE.mistake(f"registry.example/glm@{digest}", "image") is None) is right


@pytest.mark.parametrize(("pair", "right"), image_references.REALMS.items())
def test_a_login_goes_to_the_registrys_own_token_service(pair: tuple[str, str], right: bool) -> None:
    assert grammar.own_service(*pair) is right
