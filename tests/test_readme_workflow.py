"""The workflow that the chapter on pipelines offers to copy."""

import re
import shlex
from pathlib import Path

import typer

from keras_ref.frontends.command_line import cli

CHAPTER = Path(__file__).parents[1] / ".github" / "docs" / "pipeline.md"


def test_the_workflow_runs_commands_that_exist():
    """The copy-and-paste workflow: its gradtwin and pytest lines have only options that there are."""
    blocks = re.findall(r"```yaml\n(name:.*?)```", CHAPTER.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks, "the chapter has lost its workflow"
    (workflow,) = blocks
    assert "\t" not in workflow and all(
        len(line) - len(line.lstrip()) in (0, 2, 4, 6, 8, 10) for line in workflow.splitlines()
    )
    assert [line.split(":")[0] for line in workflow.splitlines() if line[:1].isalpha()] == ["name", "on", "jobs"]
    commands = [
        shlex.split(found) for found in re.findall(r"(?:run: |^ +)(gradtwin .*)$", workflow, flags=re.MULTILINE)
    ]
    assert {words[1] for words in commands} >= {"check"}
    group = typer.main.get_command(cli.app)
    for words in commands:
        command = group.commands[words[1]]
        command.make_context(words[1], words[2:])  # refuses what it does not know
