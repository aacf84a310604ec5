"""A command as data: which check, of which targets, with which options. It can be run, recorded, and run again."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keras_ref.errors import BadInput, CouldNotRun, find_place, shorten_error, target_stays
from keras_ref.frontends.invocations.distribution import open_executor
from keras_ref.frontends.invocations.verbs import find_check
from keras_ref.inputs.targets import Loaded, complete_data, import_module, load_data, load_target
from keras_ref.options import (
    OPTIONS,
    SharedExpectations,
    make_keywords,
    matches_variable,
    parse_expectations,
    require_legal,
)
from keras_ref.own_modules import PLACE
from keras_ref.reports.files import describe_writer, is_plain_file
from keras_ref.reports.verdict import Report
from keras_ref.supervision.supervise import WATCHED
from keras_ref.undoing import staying_here
from scratch.nudging.answers import OtherSoftware
from scratch.progress import Progress, ticking
from scratch.releases import find_version

#: where the files of gradtwin lie
_OWN = (str(Path(__file__).parents[2]), str(PLACE))
ISOLATION = ("isolate", "time-limit", "memory-limit")
#: who computes, which changes no result: a report does not record it, and so none can name a machine to replay it on
DISTRIBUTION = ("workers", "cluster")
_LOADING = ("seed", "import", "unsafe", *ISOLATION, *DISTRIBUTION)
_COMPARING = ("budget", "variables", "wrt", "batches", "training", "mode", "backend", "expect", "allow")
#: which options of the table each command takes
TAKES = {
    "check": ("effort", "digits", *_COMPARING, *_LOADING),
    "locate": (*_COMPARING, *_LOADING),
    "updates": ("steps", "batch-size", "allow", *_LOADING),
}

#: those of them that a report records
RECORDED = {command: tuple(name for name in names if name not in DISTRIBUTION) for command, names in TAKES.items()}


@dataclass(frozen=True)
class Invocation:
    """A command with its targets, its data file, and the options that are not the defaults.

    for_several   whether what it expects is said of other targets, too, so that it need not be found in each
    of_project    whether that is said of the whole project, so that it need not be found at all
    """

    command: str
    targets: tuple[str, ...]
    data: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    for_several: bool = field(default=False, compare=False)
    of_project: bool = field(default=False, compare=False)

    @classmethod
    def of(
        cls, command: str, *, targets: Iterable[str], data: str, project: Mapping[str, Any] | None = None, **given: Any
    ) -> Invocation:
        """The invocation for what the command line gave, by parameter name.

        project   the settings of the project, beside which even a default is something that is given

        Raises: CouldNotRun for a value that an option does not take.
        """
        named = {name: given[name_parameter(name)] for name in TAKES[command]}
        project = project or {}
        options = {
            name: tuple(v) if OPTIONS[name].many else v
            for name, v in named.items()
            if v not in (OPTIONS[name].default, []) or name in project
        }
        require_legal(options)
        targets = tuple(targets)
        of_project = "expect" in project and options.get("expect") == project["expect"]
        several = len(targets) > 1 or of_project
        return cls(command, targets, data, options, for_several=several, of_project=of_project)

    def value(self, name: str) -> Any:
        """The value of an option, its default if it was not given."""
        return self.options.get(name, OPTIONS[name].default)

    def argv(self) -> list[str]:
        """The command's words, after `gradtwin`."""
        words = [self.command, *self.targets, *(["--data", self.data] if self.data else [])]
        for name, value in self.options.items():
            for one in value if OPTIONS[name].many else [value]:
                flag = f"--{name}" if one else f"--no-{name}"
                words += [flag] if OPTIONS[name].type is bool else [f"--{name}", str(one)]
        return words

    def replay(self) -> str:
        """The command as it is typed into a shell."""
        return shlex.join(["gradtwin", *self._without(DISTRIBUTION).argv()])

    def for_target(self, target: str) -> Invocation:
        """The same command for one of its targets."""
        return replace(self, targets=(target,))

    def require_expected(self, found: Iterable[Report]) -> None:
        """Require that what is expected of several targets is found in one of them. Raises: CouldNotRun.

        A check in this process refuses by itself what is expected of its target alone.
        """
        names = [verdict.name for report in found for verdict in report.verdicts]
        is_open = (self.for_several or self.value("isolate")) and not self.of_project
        if not names or not is_open or {"variables", "wrt"} & {*self.options}:  # other names are not known
            return
        for pattern in parse_expectations(self.value("expect")):
            if not any(matches_variable(name, pattern, name.partition("/")[0]) for name in names):
                raise CouldNotRun(
                    f"--expect must match at least one variable. Received: {pattern!r}, where there are "
                    f"{', '.join(dict.fromkeys(names))}. Correct the pattern."
                )

    def without_isolation(self) -> Invocation:
        """The same command, run in the process that runs it."""
        return self._without(ISOLATION)

    def among(self, number: int) -> Invocation:
        """The same command as one of a number that share the processes of this machine."""
        workers = {"workers": self.value("workers") // number} if self.value("workers") else {}
        return replace(self, options={**self.options, **workers})

    def _without(self, names: Iterable[str]) -> Invocation:
        """The same command without some options."""
        return replace(self, options={name: value for name, value in self.options.items() if name not in names})

    def run(
        self,
        target: str,
        progress: Progress | None = None,
        loaded: Loaded | None = None,
        executor: Executor | None = None,
    ) -> Report:
        """Run the command for one target in this process. Raises: CouldNotRun or ValueError, in one sentence.

        progress   is called at least every second, from the first line that loads the target on
        loaded     what the target holds, where it is loaded already: a second call of a factory gives other names
        executor   computes blocks of losses, where the options name nobody who does
        """
        try:
            with (
                ticking(progress, "loading") as report_progress,
                open_executor(workers=self.value("workers"), cluster=self.value("cluster")) as asked_for,
                staying_here(),
                target_stays(target),
            ):
                report, drawn = self._check(target, report_progress, loaded, asked_for or executor)
        except (CouldNotRun, BadInput):
            raise
        except OtherSoftware as error:
            raise CouldNotRun(str(error)) from error
        except MemoryError as error:
            raise CouldNotRun(
                f"A check must fit into memory. Received: {target}, for which there is too little: "
                f"{shorten_error(error)} Pass a smaller batch with --data, or take a machine with more memory."
            ) from error
        except Exception as error:
            if is_own(error):
                raise
            raise CouldNotRun(
                f"A check must be able to run the model. Received: {target}, which raised {type(error).__name__}: "
                f"{shorten_error(error, find_place(error))} Call the model on this data by itself; with "
                "GRADTWIN_TRACEBACK=1 in the environment the whole trace is shown."
            ) from error
        notes = (*report.notes, *([drawn] if drawn else []))
        return replace(report, allowed=frozenset(self.value("allow")), notes=notes)

    def _check(
        self, target: str, progress: Progress | None, loaded: Loaded | None, executor: Executor | None
    ) -> tuple[Report, str]:
        """The report on a target, and a note on data that were drawn."""
        for module in self.value("import"):
            import_module(module)
        call = _CALLS[self.command](self)
        drawn = ""
        if "backend" in self.options:  # a process of that backend opens the target
            self._require_plain_target()
            model, (x, y, weight) = target, load_data(self.data) if self.data else (None, None, None)
            call.options["backend"] = self.value("backend")
        else:
            from keras_ref.inputs.tables import load_data_of

            model, x, y, weight = loaded or load_target(target, unsafe=self.value("unsafe"))
            if self.data:
                x, y, weight = load_data_of(model, self.data)
            (model, x, y, weight), drawn = complete_data(model, x, y, weight, seed=self.value("seed"))
        report = find_check(call.verb)(
            model,
            x,
            y,
            sample_weight=weight,
            seed=self.value("seed"),
            replay=self.for_target(target).replay(),
            progress=progress,
            executor=executor,
            **call.options,
        )
        # a target keeps its own name: that of a model may be sequential_4
        name = getattr(model, "name", report.subject)
        return replace(report, subject=target + report.subject.removeprefix(name)), drawn

    def _require_plain_target(self) -> None:
        """Raises: CouldNotRun for options that the process of another backend does not get."""
        asked = [f"--{name}" for name in ("import", "unsafe") if name in self.options]
        if asked:
            raise CouldNotRun(
                f"With --backend a target must load by itself. Received: {' and '.join(asked)}. Give a factory, "
                "package.module:factory."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the versions, and the digests of the files that the command reads."""
        files = [name for name in (*self.targets, self.data) if name and is_plain_file(name)]
        return {
            "command": self.command,
            "targets": list(self.targets),
            "data": self.data,
            "options": {
                name: list(v) if isinstance(v, tuple) else v for name, v in self._without(DISTRIBUTION).options.items()
            },
            "seed": self.value("seed"),
            "files": {name: hash_file(name) for name in files},
            "versions": read_versions(),
            "replay": self.replay(),
        }


def is_own(error: BaseException) -> bool:
    """Whether an error was raised by a line of gradtwin itself, and not by what it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OWN)


def build_default_map(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{command: {parameter: value}}: the settings of a project as what each command takes where it is not told."""
    values = {name: list(value) if OPTIONS[name].many else value for name, value in settings.items()}
    return {
        command: {name_parameter(name): value for name, value in values.items() if name in takes}
        for command, takes in TAKES.items()
    }


def name_parameter(option: str) -> str:
    """The Python name of an option: `import` is a keyword, and a dash is no letter."""
    return "imports" if option == "import" else option.replace("-", "_")


@dataclass(frozen=True)
class _Call:
    """A check by name, and its options."""

    verb: str
    options: dict[str, Any]


def _call_gradients(invocation: Invocation) -> _Call:
    effort = "fast" if invocation.command == "locate" else invocation.value("effort")
    optional = {name: invocation.value(name) for name in ("budget", "wrt") if invocation.value(name)}
    named = {name: invocation.value(name) for name in ("variables", "batches", "training", "mode", "digits", "expect")}
    options = make_keywords({**named, **optional, "effort": effort})
    if invocation.for_several or WATCHED in os.environ:  # one of several targets, perhaps in a process of its own
        options["expect"] = SharedExpectations(options["expect"])
    return _Call("check_gradients", options)


def _call_updates(invocation: Invocation) -> _Call:
    return _Call("check_updates", make_keywords({name: invocation.value(name) for name in ("steps", "batch-size")}))


_CALLS: dict[str, Callable[[Invocation], _Call]] = {
    "check": _call_gradients,
    "locate": _call_gradients,
    "updates": _call_updates,
}


def make_document(invocation: Invocation, found: Mapping[str, Report], refused: Iterable[str] = ()) -> dict[str, Any]:
    """What --json writes: the command, and a report for each target. That of a single target is at the top, too, where
    it was before there were several.

    found     {target: report};   refused   a sentence for each target that could not be run
    """
    reports, refused = {target: report.to_dict() for target, report in found.items()}, list(refused)
    alone = next(iter(reports.values()), {}) if len(invocation.targets) == 1 else {}
    return {
        **describe_writer(invocation.command),
        **alone,
        "ok": not refused and all(r.ok for r in found.values()),
        "could_not_run": refused,
        "reports": [{"target": target, **report} for target, report in reports.items()],
        "run": invocation.to_dict(),
    }


def read_versions() -> dict[str, str]:
    """{package: version} of what a verdict may depend on, as far as it is installed. Nothing is imported."""
    versions = {name: find_version(name) for name in ("gradtwin", "keras", "tensorflow", "numpy")}
    return {name: version for name, version in versions.items() if version}


def hash_file(path: str) -> str:
    """The SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
