"""Strict JSON: what is refused, and that nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError

from modelperf.api.parsers import DEEPEST, decode
from modelperf.services.errors import InvalidError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
AWKWARD = ['":', ":", 'a":"b', "\\", '\\":', '"', ' "', " :", "a\\", '"  :']


@given(VALUES, st.sampled_from([None, 0, 2]), st.booleans(), st.booleans())
def test_json_is_decoded_as_json_says(
    value: Any, indent: int | None, ascii_only: bool, spread: bool
) -> None:
    separators = (" , ", "\t: ") if spread else None
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only, separators=separators)
    assert decode(text.encode()) == value


@pytest.mark.parametrize("text", AWKWARD)
def test_strings_that_look_like_names_are_no_duplicates(text: str) -> None:
    value = {text: text, "other": [text, {text: {text: 1}}]}
    assert decode(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a":1,"a":2}', ("body", "a")),
        ('{"a":1,"a" :2}', ("body", "a")),
        ('{"a" :1,"a"\n:2}', ("body", "a")),
        ('{"a":1,"\\u0061":2}', ("body", "a")),
        ('{"a":1,"a":1}', ("body", "a")),
        ('{"m":{"x":1,"x":1},"t":":"}', ("body", "x")),
        ('[{"a":1},{"b":":","c":1,"c":2}]', ("body", 1, "c")),
        ('[1,[{"c":1,"c":2}]]', ("body", 1, "c")),
    ],
)
def test_a_name_given_twice_is_refused_with_its_place(text: str, place: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidError) as caught:
        decode(text.encode())
    assert [(error.loc, error.type) for error in caught.value.errors] == [(place, "duplicate")]


@given(VALUES, TEXTS, st.sampled_from(AWKWARD))
def test_a_duplicate_is_found_in_any_company(value: Any, name: str, awkward: str) -> None:
    key, company = json.dumps(name), json.dumps([value, awkward, {awkward: value}])
    with pytest.raises(InvalidError):
        decode(f"[{company},{{{key}:1,{key}:{company}}}]".encode())


@pytest.mark.parametrize(
    "text", ["", " ", "{", "nul", '{"a":1,}', "'a'", '"\\ud800"', '"a\0"', "1 2"]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        decode(text.encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ParseError):
        decode(b'{"a": "\xff"}')


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("NaN", ("body",)),
        ('{"a":{"b":-Infinity}}', ("body", "a")),
        ('{"metrics":{"b":1e999}}', ("body", "b")),
        ('[{"a":1},{"metrics":{"b":NaN}}]', ("body", 1, "b")),
        (f'{{"a":{"9" * 5000}}}', ("body",)),
    ],
)
def test_a_number_without_a_finite_value_is_refused_with_its_place(
    text: str, place: tuple[Any, ...]
) -> None:
    with pytest.raises(InvalidError) as caught:
        decode(text.encode())
    assert [error.loc for error in caught.value.errors] == [place]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("\0", ("body",)),
        ({"a": "x\0"}, ("body", "a")),
        ({"metadata": {"b": ["\0"]}}, ("body", "metadata")),
        ({"metadata": {"\0": 1}}, ("body", "metadata")),
        ([{}, {"a": "\0"}], ("body", 1, "a")),
    ],
)
def test_a_nul_character_is_refused_with_its_place(value: Any, place: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidError) as caught:
        decode(json.dumps(value).encode())
    assert [error.loc for error in caught.value.errors] == [place]


def test_a_backslash_before_u0000_is_text() -> None:
    assert decode(b'{"a":"\\\\u0000"}') == {"a": "\\u0000"}


@pytest.mark.parametrize("levels", [DEEPEST + 1, 500, 2000, 100_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_what_is_nested_too_deep_is_refused(levels: int, brackets: str) -> None:
    opening = brackets[0] + ('"a":' if brackets == "{}" else "")
    text = opening * levels + "1" + brackets[1] * levels
    with pytest.raises(InvalidError) as caught:
        decode(text.encode())
    assert [error.type for error in caught.value.errors] == ["too_deep"]


def test_what_is_nested_as_deep_as_allowed_is_read() -> None:
    assert decode(b"[" * DEEPEST + b"]" * DEEPEST)


def test_a_deep_body_that_is_no_json_either_is_refused() -> None:
    with pytest.raises((InvalidError, ParseError)):
        decode(b"[" * 5000 + b"NaN")
