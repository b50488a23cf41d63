"""The campaign's own counting: what is right, what is wrong, what ends up in the table."""

import pytest

from metaformer.core.errors import DataError

pytest_plugins = ["pytester"]


def test_a_result_and_one_line_of_ours_are_right_and_anything_else_is_wrong(pytester, request):
    pytester.makeconftest((request.path.parent / "conftest.py").read_text())
    pytester.makepyfile(
        """
        from metaformer.core.errors import DataError

        def fail(error):
            raise error

        def test_of_two_kinds(tries):
            good, bad = tries("good"), tries("bad")
            assert good.run("a result", lambda: 3) == 3
            good.run("one line", lambda: fail(DataError("no such file")))
            bad.run("two lines", lambda: fail(DataError("no\\nfile")))
            bad.run("a traceback", lambda: fail(KeyError("x")))
            bad.run("too slow", lambda: None, limit_s=0)
            bad.note("judged", True)
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    table = result.stdout.str()
    result.stdout.re_match_lines_random(
        [r"bad +4 +1 +3", r"good +2 +2 +0", r"all +6 +3 +3", r"peak memory: here .* MiB.*"]
    )
    assert "bad: a traceback: KeyError" in table


def test_an_error_of_ours_is_what_a_try_returns(tries):
    def fail():
        raise DataError("no such file")

    assert isinstance(tries("harness").run("a", fail), DataError)
    with pytest.raises(AttributeError):
        tries("harness").wrongs  # noqa: B018
