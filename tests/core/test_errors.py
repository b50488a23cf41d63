import pytest

from metaformer.core.errors import (
    ConfigError,
    DataError,
    MissingExtraError,
    ShapeError,
    did_you_mean,
    first_line,
    one_line,
    unknown,
)


@pytest.mark.parametrize("error", [ConfigError, ShapeError, DataError])
def test_the_users_mistakes_are_value_errors(error):
    assert issubclass(error, ValueError)


def test_what_an_error_says_in_one_line():
    error = RuntimeError("no\n  such   file")
    assert (one_line(error), one_line(error, 5), first_line(error)) == ("no such file", "no su", "no")


def test_an_error_that_says_nothing_says_its_class():
    assert (one_line(OSError()), first_line(OSError())) == ("OSError", "OSError")


def test_the_nearest_name_is_suggested():
    assert did_you_mean("poling", ["identity", "pooling"]) == " Did you mean 'pooling'?"


def test_nothing_is_suggested_when_nothing_is_near():
    assert did_you_mean("xyz", ["identity", "pooling"]) == ""


def test_an_unknown_name_is_told_what_is_known():
    message = "unknown token mixer 'poling'. Did you mean 'pooling'? Known: identity, pooling."
    assert str(unknown("token mixer", "poling", ["identity", "pooling"])) == message


def test_known_names_may_come_from_an_iterator():
    assert str(unknown("norm", "xyz", iter(["a", "b"]))) == "unknown norm 'xyz'. Known: a, b."


def test_a_missing_extra_says_how_to_install_it():
    error = MissingExtraError(need="the report", extra="report")
    assert isinstance(error, ImportError)
    assert str(error) == "the report needs the extra 'report'. Install it: pip install 'metaformer[report]'"
