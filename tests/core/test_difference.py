import pytest

from metaformer.core.difference import first_difference


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ({"a": 1}, {"a": 2}, "a: 1 there, 2 here"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b[1]: 2 there, 3 here"),
        ({"a": [1]}, {"a": [1, 2]}, "a: [1] there, [1, 2] here"),
        ({"a": (1, 2)}, {"a": [3, 2]}, "a[0]: 1 there, 3 here"),
        ({}, {"new": True}, "new: None there, True here"),
        ({"old": True}, {}, "old: True there, None here"),
        ({"a": "x" * 100}, {"a": 1}, "a: '" + "x" * 56 + "... there, 1 here"),
    ],
    ids=str,
)
def test_the_first_difference_is_named_with_both_values(there, here, expected):
    assert first_difference(there, here) == expected
