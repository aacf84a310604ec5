"""Reports as GitHub annotations and in terminals of any width."""

from dataclasses import replace

from rich.console import Console

from keras_ref.frontends.plugin.pytest_items import sum_up
from keras_ref.reports import github
from keras_ref.reports.culprit import Culprit
from keras_ref.reports.terminal import report_table
from keras_ref.reports.verdict import Report, Verdict


def test_annotations_are_escaped():
    assert (
        github.format_annotation("a: b, 100%", "x\r\n50%: y, z", file="", line=3)
        == "::error line=3,title=a%3A b%2C 100%25::x%0D%0A50%25: y, z"
    )
    verdict = Verdict("a|b`c", "twin", "mismatch", 1, 1, {}, (), 1.0, 2.0)
    assert "| `a\\|b'c` | twin |" in github.write_summary("t", Report("s", (verdict,)))


def wrong(count):
    """A report with so many mismatches, each worse than the one before."""
    verdicts = (Verdict(f"v{i}", "forward", "mismatch", 1, 1, {}, (), 1.0, 2.0 + i) for i in range(count))
    return Report("s", tuple(verdicts))


def test_of_more_findings_than_github_shows_the_last_says_how_many():
    assert [len(github.annotate("m:f", wrong(count))) for count in (1, 9, 10, 11, 200)] == [1, 9, 10, 10, 10]
    assert github.annotate("m:f", wrong(11))[-1].startswith(
        "::error title=gradtwin%3A 2 more failures are in the step's summary and in the log.::s: 11 variables"
    )
    assert "more failures" not in "".join(github.annotate("m:f", wrong(10)))


def test_an_annotation_stands_beside_the_layer_at_fault_or_the_factory(tmp_path, monkeypatch):
    """Each where it lies in the workspace, which need not be the working directory; nothing is imported for that."""
    here = tmp_path / "workspace" / "below"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "workspace"))
    (here / "unread_models.py").write_text("raise SystemExit\n\n@x\ndef build():\n    pass\n", encoding="utf-8")
    (here / "unread_broken.py").write_text("def build(:", encoding="utf-8")
    report = wrong(1)
    at_fault = replace(report, culprit=Culprit(layer="a", kind="A", file="layers/a.py", line=7))
    outside = replace(report, culprit=Culprit(layer="a", kind="A", file="/usr/lib/a.py", line=7))
    for found, place in (
        (at_fault, "file=below/layers/a.py,line=7,"),
        (outside, "file=below/unread_models.py,line=4,"),
        (report, "file=below/unread_models.py,line=4,"),
    ):
        (line,) = github.annotate("unread_models:build", found)
        assert line.startswith(f"::error {place}title=")
    for target in ("unread_models:other", "unread_broken:build", "unread_nowhere:build", "model.keras"):
        assert github.annotate(target, report)[0].startswith("::error title=")


def test_a_narrow_terminal_loses_columns_not_names():
    report = Report(
        "s",
        (
            Verdict(
                "encoder/" + "x" * 40 + "/kernel",
                "forward",
                "mismatch",
                10,
                10,
                {},
                (0,),
                1.0,
                2.0,
                truncation=1e-9,
                rounding=1e-9,
            ),
        ),
    )
    for width, shown, gone in (
        (200, ("compared", "allowed", "would have seen"), ()),
        (115, ("allowed", "compared"), ("would have seen",)),
        (60, ("verdict",), ("compared", "allowed")),
    ):
        console = Console(width=width, force_terminal=False)
        with console.capture() as captured:
            console.print(report_table(report, width))
        text = captured.get()
        assert all(word in text for word in shown) and not any(word in text for word in gone), text
        assert "…" not in text and "mismatch" in text


def test_what_is_summed_up_counts_variables_and_inputs_apart():
    """In the line of a report and in that of a test run; a layer may be called "inputs"."""
    for names, counted in (
        (("a/kernel",), "1 variable"),
        (("inputs/kernel", "input_2/bias"), "2 variables"),
        (("a/kernel", "a/bias", "input"), "2 variables and the input"),
        (("a/kernel", "input:0", "input:left/right"), "1 variable and 2 inputs"),
        (("input",), "the input"),
    ):
        verdicts = [Verdict(name, oracle, "match", 1, 1) for oracle in ("forward", "twin") for name in names]
        report = Report("s", tuple(verdicts))
        assert report.summary().startswith(f"s: {counted}, {len(verdicts)} of {len(verdicts)} entries compared: ")
        assert sum_up([("test", report.to_json())]).line == counted
