"""Reports as GitHub annotations and in terminals of any width."""

from rich.console import Console

from keras_ref.reports import github
from keras_ref.reports.terminal import report_table
from keras_ref.reports.verdict import Report, Verdict


def test_annotations_are_escaped():
    assert (
        github.annotation("a: b, 100%", "x\r\n50%: y, z", file="", line=3)
        == "::error line=3,title=a%3A b%2C 100%25::x%0D%0A50%25: y, z"
    )
    verdict = Verdict("a|b`c", "twin", "mismatch", 1, 1, {}, (), 1.0, 2.0)
    assert "| `a\\|b'c` | twin |" in github.summary("t", Report("s", (verdict,)))


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
