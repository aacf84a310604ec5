"""The ledger: a script for each finding, which runs without gradtwin; what is corrected upstream is no failure."""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from statistics import median

import pytest
from support_findings import is_as_found

from keras_ref.campaign import standing
from keras_ref.campaign.ledger import KINDS, UNREPORTED, load_findings, load_releases, load_untried, select_findings
from keras_ref.campaign.page import build_ledger_page, draft_report
from keras_ref.campaign.standing import CANNOT, CORRECTED, STILL_THERE, Standing, find_standings, run_script

FINDINGS = load_findings()
#: at most so many lines has a script
SHORT = 15


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda f: f.id)
def test_a_script_needs_no_gradtwin(finding):
    tree = ast.parse(finding.script)
    modules = {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= {"os", "sys", "keras", "numpy", "tensorflow", "math", "functools"}
    assert finding.kind in KINDS and finding.where and finding.affects and len(finding.source) > 10
    assert finding.upstream == UNREPORTED or finding.upstream.startswith("https://github.com/")


def test_older_releases():
    """Each names findings of the ledger, and in the most of them it was looked for in three older releases."""
    ids = {finding.id for finding in FINDINGS}
    assert load_untried() <= ids
    looked = [finding for finding in FINDINGS if finding.id not in load_untried()]
    for release in load_releases():
        assert {*release["right"], *release["cannot"]} <= ids and not {*release["right"]} & {*release["cannot"]}
    tried = [release["keras"] for release in load_releases()]
    assert len(tried) >= 3 and sum(list(f.seen_in) == tried for f in looked) > 0.8 * len(looked) > 80


def test_scripts_are_short():
    lengths = [len(finding.script.splitlines()) for finding in FINDINGS]
    assert median(lengths) <= 12 and max(lengths) <= SHORT


def test_states():
    there, *_ = select_findings(["tensorflow-xlogy-at-zero"])
    assert run_script(there)["state"] in (STILL_THERE, CORRECTED)
    right = run_script(replace(there, script=there.script.replace("np.log(0.5)", "got")))
    assert right["state"] == CORRECTED and "said:" in right["said"]
    wrong = run_script(replace(there, script=there.script.replace("np.log(0.5)", "[2.0]")))
    assert wrong["state"] == STILL_THERE and wrong["said"].endswith("right: [2.0]")
    missing = run_script(replace(there, script="import keras\nkeras.layers.NoSuchLayer()"))
    assert missing["state"] == CANNOT and missing["said"].startswith("AttributeError: ")


@pytest.mark.sampled
def test_what_ends_its_process_costs_nobody_else():
    wanted = select_findings(["adaptive-max-pooling-to-one-ends-the-process", "tensorflow-xdivy-at-zero"])
    first, second = find_standings(wanted)
    if is_as_found():
        assert first.state == STILL_THERE and first.said.startswith("It killed the process (signal ")
        assert second.state == STILL_THERE and second.said.endswith("said: [0.0] right: [2.0]")


def test_a_corrected_fault_that_is_back(monkeypatch):
    finding = replace(FINDINGS[0], fixed_in={"keras": "3.15.0"})
    monkeypatch.setattr(standing, "find_version", lambda _: "3.15.1")
    assert Standing(finding=finding, state=STILL_THERE, said="").contradicts
    assert not Standing(finding=finding, state=CORRECTED, said="").contradicts
    assert not Standing(finding=replace(finding, fixed_in={"keras": "3.16"}), state=STILL_THERE, said="").contradicts


def test_what_is_installed_by_another_name_contradicts_nothing(monkeypatch):
    """A build of TensorFlow of another name has no release that can be compared."""
    monkeypatch.setattr(standing, "find_version", lambda _: "")
    finding = replace(FINDINGS[0], fixed_in={"tensorflow": "2.22"})
    assert not Standing(finding=finding, state=STILL_THERE, said="").contradicts


def test_page_and_report():
    finding = replace(FINDINGS[0], what="<b>wrong</b>. And more.", upstream="https://github.com/a/b/issues/7")
    shown = Standing(finding=finding, state=STILL_THERE, said="1 is said; right: 2")
    page = build_ledger_page([shown], "Keras 3")
    assert "&lt;b&gt;wrong" in page and "<b>" not in page and "issues/7'>7</a>" in page and "1 still there" in page
    text = draft_report(shown)
    assert text.startswith(f"# {finding.where}: <b>wrong</b>\n") and finding.script in text
    assert "Already reported: https://github.com/a/b/issues/7" in text


@pytest.mark.sampled
def test_command(gradtwin, tmp_path):
    file = tmp_path / "ledger.json"
    status, out, _ = gradtwin("findings", "tensorflow-power-0-of-0", "--json", str(file))
    assert status == 0 and out.splitlines()[0].endswith("  tensorflow-power-0-of-0")
    (row,) = json.loads(file.read_text())["findings"]
    assert row["state"] in (STILL_THERE, CORRECTED) and row["said"]
    assert gradtwin("findings", "nothing") == (
        2,
        "",
        "gradtwin: A finding must be one of the ledger. Received: nothing. `gradtwin findings --list` has the ids.\n",
    )
    status, out, _ = gradtwin("findings", "--script")
    assert (status, out) == (2, "")
    status, out, _ = gradtwin("findings", "--list")
    assert status == 0 and len(out.splitlines()) == len(FINDINGS)
    assert gradtwin("findings", "tensorflow-svd-of-rank-one", "--script")[1].strip() == (
        select_findings(["tensorflow-svd-of-rank-one"])[0].script.strip()
    )


@pytest.mark.slow
def test_every_script_runs_by_itself(tmp_path):
    for finding in FINDINGS:
        file = tmp_path / f"{finding.id}.py"
        file.write_text(finding.script)
        status = subprocess.run([sys.executable, str(file)], capture_output=True, check=False).returncode
        assert status == 1 or (finding.kind == "crash" and status < 0) or not is_as_found(), finding.id
