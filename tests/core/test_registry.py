import pytest

from metaformer.core.errors import ConfigError
from metaformer.core.registry import Registry


@pytest.fixture
def table():
    return Registry("fruit", {"apple": "A", "pear": "P"})


def test_a_name_finds_its_entry(table):
    assert table["pear"] == "P"


def test_an_unknown_name_fails_and_names_the_nearest(table):
    with pytest.raises(ConfigError, match=r"^unknown fruit 'peer'\. Did you mean 'pear'\? Known: apple, pear\.$"):
        table["peer"]


def test_the_order_is_that_of_the_rows(table):
    table.add("fig", "F")
    assert list(table) == ["apple", "pear", "fig"]
    assert list(table.items()) == [("apple", "A"), ("pear", "P"), ("fig", "F")]
    assert len(table) == 3


def test_contains_asks_for_names_not_entries(table):
    assert "apple" in table
    assert "A" not in table


def test_a_taken_name_is_refused_and_keeps_its_entry(table):
    with pytest.raises(ConfigError, match=r"^the fruit 'pear' exists already\. Choose another name\.$"):
        table.add("pear", "Q")
    assert table["pear"] == "P"


def test_the_same_row_may_be_added_again(table):
    table.add("pear", table["pear"])
    assert len(table) == 2


def test_name_of_goes_back_from_the_entry(table):
    assert table.name_of("P") == "pear"
    assert table.name_of("Q") is None


def test_the_table_is_a_copy_of_what_it_was_made_from():
    rows = {"apple": "A"}
    table = Registry("fruit", rows)
    table.add("fig", "F")
    assert rows == {"apple": "A"}
