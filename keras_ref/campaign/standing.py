"""Running the scripts of findings against what is installed, in processes that import TensorFlow once."""

from __future__ import annotations

import io
import json
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.version import Version

from keras_ref.campaign.ledger import Finding, select_findings
from keras_ref.coverage.processes import run_in_turn
from keras_ref.own_modules import own_command
from keras_ref.reports.escaping import make_printable
from scratch.releases import find_version

#: whether TensorFlow takes oneDNN's kernels, as it does by itself; gradtwin asks for its plain ones (quiet_tensorflow)
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
STILL_THERE, CORRECTED, CANNOT = "still there", "corrected here", "cannot run here"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a finding stands in this environment: one of the three states, and what the script said."""

    finding: Finding
    state: str
    said: str

    def __post_init__(self) -> None:
        # what a script prints comes from what is installed
        object.__setattr__(self, "said", "\n".join(map(make_printable, self.said.split("\n"))))

    @property
    def contradicts(self) -> bool:
        """Whether the ledger says that it is corrected in the release that is installed, and it is not."""
        return self.state == STILL_THERE and is_corrected(self.finding)


def describe_installed() -> str:
    """The releases that are installed, in words."""
    return f"Keras {find_version('keras')} on TensorFlow {find_version('tensorflow') or 'unknown'}"


def is_corrected(finding: Finding) -> bool:
    """Whether the installed releases are such in which the ledger says that a finding is corrected."""
    fixed = [(find_version(name), release) for name, release in finding.fixed_in.items()]
    return bool(fixed) and all(here and Version(here) >= Version(release) for here, release in fixed)


def find_standings(findings: Sequence[Finding]) -> Iterator[Standing]:
    """How each stands, one after another. One that ends its process does so alone, and is then still there."""
    known = {f.id: f for f in findings}
    plain = [f.id for f in findings if f.kernels == "plain"]
    others = [f.id for f in findings if f.kernels != "plain"]
    for answer in chain(
        run_in_turn(others, command=_make_command, environment={ONEDNN: "1"}),
        run_in_turn(plain, command=_make_command, environment={ONEDNN: "0"}),
    ):
        finding = known[answer.name]
        if answer.result is not None:
            yield Standing(finding=finding, state=answer.result["state"], said=answer.result["said"])
        else:
            state = STILL_THERE if finding.kind == "crash" else CANNOT
            yield Standing(finding=finding, state=state, said=f"It {answer.ended}.")


def _make_command(ids: list[str]) -> list[str]:
    return own_command("keras_ref.campaign.standing", *ids)


def run_script(finding: Finding) -> dict[str, str]:
    """{"state": …, "said": …} of a script, run in this process. A process that is killed writes nothing."""
    said = io.StringIO()
    try:
        with TemporaryDirectory() as folder, redirect_stdout(said):
            file = Path(folder, "finding.py")
            file.write_text(finding.script, encoding="utf-8")
            runpy.run_path(str(file), run_name="__main__")
    except SystemExit as ended:
        return {"state": STILL_THERE if ended.code else CORRECTED, "said": said.getvalue().strip()}
    except Exception as error:  # noqa: BLE001 (what an older or newer release does not have)
        return {"state": CANNOT, "said": f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]}
    return {"state": CANNOT, "said": "The script did not end by an exit status."}


def main(ids: Sequence[str]) -> None:
    """Run the scripts of findings one after another; print a line of JSON for each."""
    import keras

    for finding in select_findings(list(ids)):
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        print(json.dumps({"name": finding.id, **run_script(finding)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
