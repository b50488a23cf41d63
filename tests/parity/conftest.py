"""Prints what was compared, and how near it came, when the tests are done."""


def pytest_terminal_summary(terminalreporter):
    rows = [
        (name, error)
        for report in terminalreporter.getreports("passed")
        for name, error in report.user_properties
        if name.startswith("parity ")
    ]
    if rows:
        terminalreporter.section("parity with the originals: difference over standard deviation of the logits")
        for name, error in sorted(rows):
            terminalreporter.write_line(f"{name.removeprefix('parity '):50} {error:.1e}")
