"""The conformance machinery itself: the list of features, the mark, merging, and the check for lost tags."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance import report
from tests.conformance.tags import Feature, load

FEATURES = (Feature("a.one", "A", 1, "1 First"), Feature("b.two", "B", 2, "2 Second"))


def run(folder: Path, name: str, *tests: tuple[str, str, list[str]]) -> None:
    folder.mkdir(exist_ok=True)
    entries = [{"test": test, "outcome": outcome, "tags": tags} for test, outcome, tags in tests]
    (folder / f"{name}.json").write_text(json.dumps({"kernel": "6.1", "tests": entries}))


def cells(folder: Path) -> dict[str, str]:
    return report.evidence(report.merge(folder.rglob("*.json")))


def test_every_feature_of_the_reference_is_listed() -> None:
    tiers = Counter((feature.part, feature.tier) for feature in load())
    assert tiers == {(1, "A"): 205, (1, "B"): 133, (1, "C"): 101, (2, "A"): 107, (2, "B"): 99, (2, "C"): 96}


def test_only_two_features_share_a_name_and_have_one_tier() -> None:
    tags = Counter((feature.tag, feature.tier) for feature in load())
    assert sorted(tag for tag, n in tags.items() if n > 1) == [("diag.format", "A"), ("param.named", "B")]
    assert len({tag for tag, _ in tags}) == len(tags)


def test_one_failure_under_any_kernel_makes_a_tag_fail(tmp_path: Path) -> None:
    run(tmp_path, "host", ("t1", "passed", ["a.one"]), ("t2", "passed", ["a.one"]))
    assert cells(tmp_path) == {"a.one": "`t1`"}
    run(tmp_path, "vm", ("t2", "failed", ["a.one"]))
    assert cells(tmp_path) == {"a.one": "failing: t2"}


def test_a_skip_is_no_evidence_and_no_failure(tmp_path: Path) -> None:
    run(tmp_path, "host", ("t1", "skipped", ["a.one"]))
    assert cells(tmp_path) == {}
    run(tmp_path, "vm", ("t1", "passed", ["a.one"]))
    assert cells(tmp_path) == {"a.one": "`t1`"}


def test_the_table_reads_back(tmp_path: Path) -> None:
    table = report.render(FEATURES, {"a.one": "`t[x\\|y]`", "b.two": "failing: t"})
    assert "| A | 1 | 1 | 0 | 0 |\n| B | 1 | 0 | 1 | 0 |\n| C | 0 | 0 | 0 | 0 |" in table
    assert report.passing_in(table) == {"a.one"}


def test_a_lost_tag_fails_the_check(tmp_path: Path) -> None:
    table, results = tmp_path / "conformance.md", tmp_path / "results"
    run(results, "host", ("t1", "passed", ["lex.string"]))
    assert report.check(results, table) == 1, "no table yet"
    assert report.write(results, table) == 0
    assert report.check(results, table) == 0
    run(results, "host", ("t1", "skipped", ["lex.string"]))
    assert report.check(results, table) == 1
    assert report.lost(table.read_text(), {"lex.string": "failing: t1"}) == ["lex.string: failing: t1"]


def test_the_summary_counts_steps_that_broke(tmp_path: Path) -> None:
    for step, status in (("ruff", 0), ("mypy", 1), ("host", 1), ("vm-6.1", 125)):
        (tmp_path / step).mkdir()
        (tmp_path / step / "status").write_text(f"{status}\n")
    run(tmp_path / "host", "run", ("t1", "failed", []), ("t2", "passed", []), ("t3", "skipped", []))
    assert report.counts(tmp_path.iterdir()) == {
        report.Outcome.PASSED: 2,  # ruff, t2
        report.Outcome.FAILED: 3,  # mypy, t1, and the virtual machine that did not boot
        report.Outcome.SKIPPED: 1,
    }
    assert report.summary(tmp_path.iterdir()) == 1
    assert report.summary([tmp_path / "ruff"]) == 0


def test_an_empty_run_is_no_success(tmp_path: Path) -> None:
    assert report.summary([]) == 1
    assert report.summary([tmp_path / "no such step"]) == 1
    assert report.write(tmp_path, tmp_path / "conformance.md") == 1


SAMPLE = """
    import pytest

    @pytest.mark.tag("lex.string", "lex.int.hex")
    def test_pair(): pass

    @pytest.mark.parametrize("x", [
        pytest.param(1, marks=pytest.mark.tag("fmt.x")),
        pytest.param(0, marks=pytest.mark.tag("fmt.d")),
    ])
    def test_parameter(x): assert x

    @pytest.mark.tag("fmt.u")
    @pytest.mark.skip(reason="not here")
    def test_skipped(): pass

    @pytest.fixture
    def leaky():
        yield
        raise OSError

    @pytest.mark.tag("fmt.p")
    def test_teardown(leaky): pass

    @pytest.mark.tag("fmt.s")
    @pytest.mark.xfail(reason="known")
    def test_known(): assert False
"""
PLUGIN = ("-p", "tests.conformance.plugin", "-p", "no:cacheprovider")


def test_the_mark_is_recorded(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTRACE_RESULTS", str(tmp_path / "results"))
    pytester.makepyfile(SAMPLE)
    pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=3, failed=1, errors=1, skipped=1, xfailed=1)
    recorded = cells(tmp_path / "results")
    assert recorded.keys() == {"lex.string", "lex.int.hex", "fmt.x", "fmt.d", "fmt.p"}
    assert {tag for tag, cell in recorded.items() if report.passing(cell)} == {
        "lex.string", "lex.int.hex", "fmt.x",
    }  # fmt: skip


def test_an_unknown_tag_stops_the_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTRACE_RESULTS", raising=False)  # the inner run is none of ours
    pytester.makepyfile("import pytest\n@pytest.mark.tag('fmt.nonsense')\ndef test_x(): pass")
    result = pytester.runpytest_inprocess(*PLUGIN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*test_x: 'fmt.nonsense'")


def test_a_module_that_does_not_import_is_a_failure(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTRACE_RESULTS", str(tmp_path / "results"))
    pytester.makepyfile("import no_such_module")
    pytester.runpytest_inprocess(*PLUGIN)
    assert [r.outcome for r in report.merge((tmp_path / "results").iterdir())] == [report.Outcome.FAILED]


def test_mechanisms_by_kernel(tmp_path: Path) -> None:
    for kernel, probe, outcome in (("6.12.1-x", "tc: TCX link", "passed"), ("6.1.0-5", "tc: filter", "failed")):
        test = {"test": "t", "outcome": outcome, "tags": [], "mechanisms": [probe]}
        (tmp_path / f"{kernel}.json").write_text(json.dumps({"kernel": kernel, "tests": [test]}))
    table = report.kernels(tmp_path.glob("*.json"))
    assert "| probe type | 6.1 | 6.12 |\n|---|---|---|\n| tc | FAILED (filter) | TCX link |\n" in table
    assert "| passed | 0 | 1 |" in table
