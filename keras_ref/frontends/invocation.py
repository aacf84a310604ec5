"""One command as data: what was asked, of which targets, with what; enough to say it, to write it down and to run it again."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from keras_ref.errors import BadInput, CouldNotRun, short
from keras_ref.inputs.targets import complete_data, import_module, load_data, load_target
from keras_ref.options import OPTIONS, parse_expectations, require_choice, require_minimum
from keras_ref.reports.verdict import Report, Verdict

#: which options of the table each command takes
TAKES = {
    "check": (
        "effort",
        "budget",
        "variables",
        "training",
        "mode",
        "expect",
        "allow",
        "seed",
        "import",
        "unsafe",
        "isolate",
    ),
    "locate": ("budget", "variables", "training", "mode", "expect", "allow", "seed", "import", "unsafe", "isolate"),
    "updates": ("steps", "batch-size", "allow", "seed", "import", "unsafe", "isolate"),
}


@dataclass(frozen=True)
class Run:
    """A command with its targets, data file and the options that are not as they are by default."""

    command: str
    targets: tuple[str, ...]
    data: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, command: str, targets: Iterable[str], data: str, **given: Any) -> Run:
        """A run of what the command line gave. Raises: CouldNotRun for values that no option takes."""
        named = {name: given[name.replace("-", "_").replace("import", "imports")] for name in TAKES[command]}
        options = {
            name: tuple(v) if OPTIONS[name].many else v
            for name, v in named.items()
            if v not in (OPTIONS[name].default, [])
        }
        for name, value in options.items():
            require_choice(name, value)
        parse_expectations(options.get("expect", ()))
        for name in ("steps", "seed"):
            require_minimum(name, options.get(name, OPTIONS[name].default))
        return cls(command, tuple(targets), data, options)

    def value(self, name: str) -> Any:
        """What an option is set to."""
        return self.options.get(name, OPTIONS[name].default)

    def argv(self) -> list[str]:
        """The command's words, after `gradtwin`."""
        words = [self.command, *self.targets, *(["--data", self.data] if self.data else [])]
        for name, value in self.options.items():
            for one in value if OPTIONS[name].many else [value]:
                words += [f"--{name}"] if OPTIONS[name].type is bool else [f"--{name}", str(one)]
        return words

    def replay(self) -> str:
        """The command, to be pasted into a shell."""
        return shlex.join(["gradtwin", *self.argv()])

    def alone(self, target: str) -> Run:
        """The same for one of the targets."""
        return replace(self, targets=(target,))

    def inside(self) -> Run:
        """The same in this process."""
        return replace(self, options={name: value for name, value in self.options.items() if name != "isolate"})

    def report(self, target: str, progress: Callable[[int, int, str], None] | None = None) -> Report:
        """Carry it out for one target, in this process. Raises: CouldNotRun, or ValueError, one sentence either way."""
        for module in self.value("import"):
            import_module(module)
        model, x, y, weight = load_target(target, unsafe=self.value("unsafe"))
        given = (x, y, weight) if not self.data else load_data(self.data)
        (model, x, y, weight), drawn = complete_data(model, *given, seed=self.value("seed"))
        verb, options = _VERBS[self.command](self)
        import keras_ref

        common = {
            "sample_weight": weight,
            "seed": self.value("seed"),
            "replay": self.alone(target).replay(),
            "progress": progress,
        }
        try:
            report = getattr(keras_ref, verb)(model, x, y, **common, **options)
        except (CouldNotRun, BadInput) as refusal:
            if os.environ.get("GRADTWIN_TRACEBACK") and refusal.__cause__ is not None:
                raise refusal.__cause__ from None
            raise
        except Exception as error:
            if os.environ.get("GRADTWIN_TRACEBACK"):
                raise
            raise CouldNotRun(
                f"A check must be able to run the model. Received: {target}, which raised {type(error).__name__}: {short(error)} "
                "Call the model on this data by itself; with GRADTWIN_TRACEBACK=1 in the environment the whole trace is shown."
            ) from error
        return replace(
            report, allowed=frozenset(self.value("allow")), notes=(*report.notes, *([drawn] if drawn else []))
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the versions and the digests of the files that it read."""
        read = [name for name in (*self.targets, self.data) if name and Path(name).is_file()]
        return {
            "command": self.command,
            "targets": list(self.targets),
            "data": self.data,
            "options": {name: list(v) if isinstance(v, tuple) else v for name, v in self.options.items()},
            "seed": self.value("seed"),
            "files": {name: _digest(name) for name in read},
            "versions": versions(),
            "replay": self.replay(),
        }


def run_of(data: Mapping[str, Any]) -> Run:
    """The run that to_dict wrote. Raises: CouldNotRun where it is none."""
    try:
        command, targets, options = data["command"], tuple(data["targets"]), dict(data["options"])
        known = command in TAKES and set(options) <= set(TAKES[command]) and all(isinstance(t, str) for t in targets)
    except (KeyError, TypeError) as error:
        raise CouldNotRun(
            f"A recorded run must have command, targets and options. Received: none of {error}. Write the file again with --json."
        ) from error
    if not known:
        raise CouldNotRun(
            f"A recorded run must be one of {', '.join(TAKES)} with its options. Received: {command!r} with {', '.join(options) or 'none'}. Replay it with the gradtwin that wrote it."
        )
    return Run(
        command, targets, data.get("data", ""), {n: tuple(v) if OPTIONS[n].many else v for n, v in options.items()}
    )


def _check(run: Run) -> tuple[str, dict[str, Any]]:
    options = {
        "variables": run.value("variables"),
        "training": run.value("training"),
        "modes": tuple(run.value("mode").split(",")),
    }
    budget = {"budget": run.value("budget")} if run.value("budget") else {}
    effort = "fast" if run.command == "locate" else run.value("effort")
    return "check_gradients", options | budget | {"effort": effort, "expect": parse_expectations(run.value("expect"))}


def _updates(run: Run) -> tuple[str, dict[str, Any]]:
    return "check_updates", {"steps": run.value("steps"), "batch_size": run.value("batch-size") or None}


_VERBS = {"check": _check, "locate": _check, "updates": _updates}


def report_of(data: Mapping[str, Any]) -> Report:
    """The report that Report.to_json wrote (numbers that are not finite are words there)."""
    names = {f.name for f in fields(Verdict)}
    numbers = {f.name for f in fields(Verdict) if f.type == "float"}
    verdicts = []
    for one in data["verdicts"]:
        kept: dict[str, Any] = {name: float(v) if name in numbers else v for name, v in one.items() if name in names}
        verdicts.append(Verdict(**kept | {"worst": tuple(kept.get("worst", ()))}))
    return Report(
        data["subject"],
        tuple(verdicts),
        tuple(data["notes"]),
        data["seed"],
        data["replay"],
        float(data["noise"]),
        frozenset(data.get("allowed", ())),
        {name: float(v) for name, v in data.get("precision_loss", {}).items()},
    )


def document(run: Run, found: Mapping[str, Report], refused: Iterable[str] = ()) -> dict[str, Any]:
    """What --json writes: the report with the run that made it; of several targets, a report for each."""
    reports = {target: report.to_dict() for target, report in found.items()}
    if len(run.targets) == 1:
        return {**next(iter(reports.values())), "run": run.to_dict()}
    listed = [{"target": target, **report} for target, report in reports.items()]
    return {
        "ok": not refused and all(r.ok for r in found.values()),
        "could_not_run": list(refused),
        "reports": listed,
        "run": run.to_dict(),
    }


@dataclass(frozen=True)
class Recorded:
    """What a JSON file holds: the run, the report of each target, and what has changed since."""

    run: Run
    reports: Mapping[str, Report]
    changed: tuple[str, ...] = ()


def recorded_in(path: str) -> Recorded:
    """The run and the reports of a file that --json wrote. Raises: CouldNotRun for any other."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        run = run_of(data["run"])
        listed = data["reports"] if "reports" in data else [{"target": run.targets[0], **data}]
        reports = {one["target"]: report_of(one) for one in listed}
    except OSError as error:
        raise CouldNotRun(
            f"A report to replay must exist. Received: {path}: {error.strerror}. Check the path."
        ) from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CouldNotRun(
            f"A report to replay must be one that --json wrote. Received: {path}, which is not. Write one with gradtwin check … --json {path}."
        ) from error
    return Recorded(replace(run, targets=tuple(reports)), reports, tuple(changed(data["run"])))


def versions() -> dict[str, str]:
    """Of everything that a verdict may depend on, as far as it was installed under that name. Nothing is imported."""
    found = {}
    for name in ("gradtwin", "keras", "tensorflow", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def changed(data: Mapping[str, Any]) -> list[str]:
    """What is no longer as it was when a run was recorded: files and versions, a sentence each."""
    now = versions()
    said = [
        f"{name} was {was} when the report was written, and is {now[name]}."
        for name, was in data.get("versions", {}).items()
        if name in now and now[name] != was
    ]
    files = data.get("files", {}).items()
    return said + [
        f"{name} is not the file that the report was written for."
        for name, was in files
        if Path(name).is_file() and _digest(name) != was
    ]


def differing(recorded: Report, again: Report) -> list[str]:
    """The verdicts that are not the same, a line each."""
    before, now = ({(v.name, v.oracle): v.verdict for v in report.verdicts} for report in (recorded, again))
    return [
        f"{name}, by the oracle {oracle!r}: {before.get((name, oracle), 'none')} recorded, {now.get((name, oracle), 'none')} now"
        for name, oracle in {**before, **now}
        if before.get((name, oracle)) != now.get((name, oracle))
    ]


def _digest(path: str) -> str:
    return "sha256:" + hashlib.sha256(Path(path).read_bytes()).hexdigest()
