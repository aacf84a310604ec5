"""What a path is on the command line, in one place: each option and argument that the help shows as FILE or FOLDER."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from keras_ref.options import FILE, FOLDER, require_path

if TYPE_CHECKING:
    from typer._click import Context


class PathCommand(TyperCommand):
    """A command that refuses paths which name no file, before it does anything."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the command line. Raises: CouldNotRun for a path that names no file."""
        left = super().parse_args(ctx, args)
        for parameter in self.params:
            if is_path(parameter) and _is_given(ctx, parameter):
                given = ctx.params[str(parameter.name)]
                for path in given if isinstance(given, list | tuple) else [given]:
                    require_path(name_path(parameter), path)
        return left


def is_path(parameter: Any) -> bool:
    """Whether an option or argument of a command names files or folders: the help says so."""
    return str(parameter.metavar).startswith((FILE, FOLDER))


def name_path(parameter: Any) -> str:
    """An option by its long name, an argument as the help shows it."""
    return max(parameter.opts, key=len) if parameter.param_type_name == "option" else str(parameter.metavar).rstrip("…")


def _is_given(ctx: Any, parameter: Any) -> bool:
    """Whether the command line gave a value: an empty default is a path that was left out."""
    source = ctx.get_parameter_source(parameter.name)
    return source is not None and source.name == "COMMANDLINE"
