"""The entry point of the command `gradtwin`: from its first line to its last, Ctrl-C ends it with its sentence.

While modules load, and while Python takes the process down, there is nothing to put back, and Ctrl-C ends it at once: a
KeyboardInterrupt there would be a trace, or be lost in what is being imported. In between it is a KeyboardInterrupt, so
that the check that runs puts back what it has changed.
"""

from __future__ import annotations

from keras_ref.frontends.command_line.first_line import showing_first_line
from keras_ref.frontends.endings.interruption import end_interrupted, let_interruptions_end, let_interruptions_raise


def main() -> None:
    """Run the command, and exit with its status."""
    let_interruptions_end()
    with showing_first_line():
        from keras_ref.frontends.command_line import cli

    try:
        try:
            let_interruptions_raise()
            cli.main()
        finally:
            let_interruptions_end()
    except KeyboardInterrupt:
        end_interrupted()
