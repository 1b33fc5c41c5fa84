from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd.core.scrub import DEPTH_MAX, FOUND_MAX, Found, scrub

KEY = "sk-abcdefghijklmnop1234"


def test_a_secret_key_hides_what_stands_under_it_at_any_depth() -> None:
    value = {"a": [{"db": {"Password": "x", "user": "u"}}], "n": 1}
    assert scrub(value).value == {"a": [{"db": {"Password": "[scrubbed:field]", "user": "u"}}], "n": 1}
    assert scrub(value).found == (Found("/a/0/db/Password", "field"),)
    assert value["a"] == [{"db": {"Password": "x", "user": "u"}}]


WRITTEN = """password DB_PASSWORD api_key X-Api-Key apiKey accessToken token client_secret Set-Cookie pwd passphrase
Proxy-Authorization private.key credentials aws.secret.access.key"""


@pytest.mark.parametrize("key", [*WRITTEN.split(), "private key"])
def test_secret_keys_are_known_however_they_are_written(key: str) -> None:
    assert scrub({key: "abc"}).value == {key: "[scrubbed:field]"}


@pytest.mark.parametrize(
    "key", ["tokens", "max_tokens", "next_page_token", "tokenizer", "monkey", "idempotency_key", "secretary", "", "key"]
)
def test_keys_that_only_resemble_them_hide_nothing(key: str) -> None:
    value = {key: "abc", 5: "x"}
    assert scrub(value).value is value


def test_under_a_secret_key_every_leaf_goes_but_what_tells_nothing() -> None:
    value = {"credentials": {"id": "u", "pin": 1234, "on": True, "none": None, "empty": "", "more": ["a", ("b",)]}}
    assert scrub(value).value == {
        "credentials": {
            "id": "[scrubbed:field]",
            "pin": "[scrubbed:field]",
            "on": True,
            "none": None,
            "empty": "",
            "more": ["[scrubbed:field]", ("[scrubbed:field]",)],
        }
    }
    assert scrub(value).found[0] == Found("/credentials/id", "field")
    quiet = {"credentials": {"on": True, "more": [None, ""]}, "bytes_per_token": 4, "token": 17}
    assert scrub(quiet).value is quiet


@pytest.mark.parametrize(
    "reference", ["${API_KEY}", "$TOKEN", "{{ vault.key }}", "Bearer ${TOKEN}", "[scrubbed:field]"]
)
def test_the_name_of_a_secret_is_none(reference: str) -> None:
    value = {"authorization": reference}
    assert scrub(value).value is value


def test_secrets_in_texts_are_found_by_shape_with_their_place() -> None:
    scrubbed = scrub({"messages": [{"content": f"my key is {KEY}"}]})
    assert scrubbed.value == {"messages": [{"content": "my key is [scrubbed:openai_key]"}]}
    assert scrubbed.found == (Found("/messages/0/content", "openai_key"),)
    assert scrub(KEY).found == (Found("", "openai_key"),)


def test_what_the_server_holds_is_found_as_it_stands() -> None:
    known = frozenset({"correct horse", "correct horse battery", "test"})
    scrubbed = scrub(["test correct horse battery", "correct horse", "x"], known)
    assert scrubbed.value == ["test [scrubbed:known]", "[scrubbed:known]", "x"]
    assert scrubbed.found == (Found("/0", "known"), Found("/1", "known"))


def test_a_secret_that_is_a_key_of_a_mapping_is_in_neither_value_nor_path() -> None:
    scrubbed = scrub({KEY: f"a {KEY}", f"{KEY}x": "b", "[scrubbed:openai_key]": "c"})
    assert KEY not in repr(scrubbed)
    assert sorted(scrubbed.value.values()) == ["a [scrubbed:openai_key]", "b", "c"]
    assert scrubbed.found[0] == Found("/?", "openai_key")
    assert KEY not in repr(scrub({"credentials": {KEY: 1}}))


def test_paths_are_pointers_and_short() -> None:
    assert scrub({"a/b~": {"k" * 99: KEY}}).found[0].path == "/a~1b~0/" + "k" * 64


@pytest.mark.parametrize(
    "value", [None, 1, 2.5, True, "", "hello", b"sk-abcdefghijklmnop1234", {"a": [1, ("b",)]}, [], {}]
)
def test_what_holds_no_secret_is_the_same_object(value: Any) -> None:
    scrubbed = scrub(value, frozenset({"something else"}))
    assert scrubbed.value is value
    assert scrubbed.found == ()


def test_what_is_too_deep_to_be_looked_at_is_taken_out() -> None:
    for top in ("a", "password"):
        value: Any = KEY
        for _ in range(DEPTH_MAX * 4):
            value = {top: [value]}
        scrubbed = scrub(value)
        assert KEY not in repr(scrubbed.value)
        assert [one.rule for one in scrubbed.found] == ["depth"]


def test_places_beyond_a_limit_are_one_word() -> None:
    scrubbed = scrub([KEY] * (FOUND_MAX + 5))
    assert len(scrubbed.found) == FOUND_MAX
    assert scrubbed.found[-1] == Found("", "more")
    assert KEY not in repr(scrubbed.value)
    assert len(scrub([KEY] * FOUND_MAX).found) == FOUND_MAX
    assert scrub([KEY] * FOUND_MAX).found[-1].rule == "openai_key"


_PIECES = """sk-|abcdefghijklmnop1234|password|=|: |bearer |://u:|@|eyJabcdefghi|.| |"|[scrubbed:field]|x|9|known-value
|-----BEGIN PRIVATE KEY-----|-----END PRIVATE KEY-----"""
PIECES = st.lists(st.sampled_from(_PIECES.split("|")), max_size=10).map("".join)
NAMES = st.sampled_from(["password", "token", "a", "b"]) | PIECES
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | PIECES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(VALUES)
def test_to_scrub_twice_is_to_scrub_once(value: Any) -> None:
    known = frozenset({"known-value"})
    once = scrub(value, known)
    assert "known-value" not in repr(once)
    again = scrub(once.value, known)
    assert again.found == ()
    assert again.value is once.value
    assert (once.value is value) == (not once.found)
