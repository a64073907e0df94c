"""The pytest side of the conformance table: `@pytest.mark.tag("fmt.d", "fmt.u")`.

The mark names the features which a test shows; on a parameter it is
`pytest.param(..., marks=pytest.mark.tag("fmt.x"))`. An unknown tag stops the run before any test.

When the environment variable PYTRACE_RESULTS names a folder, the outcome of every test is written to a
new file in it, so that runs under several kernels add up. report.py reads these files.
"""

import json
import os
import time
from pathlib import Path

import pytest

from tests.conformance.tags import load, names

PROPERTY = "conformance tag"  # a user property travels with the reports of a test
MECHANISM = "mechanism"  # a property of tests that say by what a type of probe is attached: "TYPE: MECHANISM"


class Recorder:
    """Collects the outcome of each test of one run: passed, failed or skipped."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.tags: dict[str, list[str]] = {}
        self.mechanisms: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid
        self.tags[test] = [str(value) for name, value in report.user_properties if name == PROPERTY]
        self.mechanisms[test] = [str(value) for name, value in report.user_properties if name == MECHANISM]
        if report.failed:
            self.outcomes[test] = "failed"
        elif report.skipped or hasattr(report, "wasxfail"):
            self.outcomes.setdefault(test, "skipped")
        elif report.when == "call":
            self.outcomes.setdefault(test, "passed")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = "failed"

    def write(self, folder: Path) -> Path:
        """Writes one file, whose name no other run in `folder` has (other kernel, process or time)."""
        tests = [
            {
                "test": test,
                "outcome": outcome,
                "tags": self.tags.get(test, []),
                "mechanisms": self.mechanisms.get(test, []),
            }
            for test, outcome in self.outcomes.items()
        ]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{os.uname().release}-{os.getpid()}-{time.time_ns()}.json"
        path.write_text(json.dumps({"kernel": os.uname().release, "tests": tests}, indent=1))
        return path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tag(*names): the features of the language which this test shows")
    if os.environ.get("PYTRACE_RESULTS"):
        config.pluginmanager.register(Recorder(), "pytrace-results")


@pytest.hookimpl(tryfirst=True)  # before anything deselects: an unknown tag is an error under -k too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known = names(load())
    wrong = []
    for item in items:
        tags = [tag for mark in item.iter_markers("tag") for tag in mark.args]
        wrong += [f"{item.nodeid}: {tag!r}" for tag in tags if tag not in known]
        item.user_properties += [(PROPERTY, tag) for tag in sorted(set(tags))]
    if wrong:
        raise pytest.UsageError("no such tag in tests/conformance/tags.tsv:\n" + "\n".join(wrong))


def pytest_sessionfinish(session: pytest.Session) -> None:
    recorder = session.config.pluginmanager.get_plugin("pytrace-results")
    if isinstance(recorder, Recorder):
        recorder.write(Path(os.environ["PYTRACE_RESULTS"]))
