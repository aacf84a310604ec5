"""The pictures of the README, made again from real runs: `python tests/pictures.py [FOLDER]` writes .github/images/.

lesson.png    the page that `gradtwin lesson recipe1` writes, as headless Chromium shows it (Debian's package chromium)
failure.svg   what `gradtwin check` prints of a model with a wrong backward pass, recorded by rich
summary.png   the step summary that the GitHub Action leaves of that model and of a right one, from its Markdown
"""

import contextlib
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
from rich.console import Console
from rich.text import Text

from keras_ref.frontends.command_line import cli, running
from keras_ref.reports.terminal import ProgressLines

IMAGES = Path(__file__).parents[1] / ".github" / "images"
#: columns of the terminal in the picture
COLUMNS = 112
#: pixels of the lesson's window, which holds the forward pass and one weight, and of the summary's
LESSON_WINDOW, SUMMARY_WINDOW = (1000, 1430), (1000, 1540)
#: the most frequent colours, to which the others are rounded
COLOURS = 32
#: x² with a backward pass that is wrong by one part in a million
FACTORY = """
import keras
import numpy as np
import tensorflow as tf

@tf.custom_gradient
def squared(x):
    return x * x, lambda upstream: upstream * 2.000002 * x

class Squared(keras.layers.Layer):
    def call(self, x):
        return squared(x)

def build(last=Squared):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense"), last()], name="network")
    model.compile(optimizer="sgd", loss="mse")
    return model

def right():
    return build(keras.layers.Softmax)
"""
COMMAND = ("check", "models:build", "--variables", "dense/kernel")
#: how GitHub shows Markdown, as far as it matters to a summary
STYLE = """
body { font: 16px/1.5 "Noto Sans", "DejaVu Sans", sans-serif; color: #1f2328; margin: 24px; width: 940px }
h3 { border-bottom: 1px solid #d1d9e0; padding-bottom: 6px }
table { border-collapse: collapse } td, th { border: 1px solid #d1d9e0; padding: 5px 12px }
code, pre { font-family: "DejaVu Sans Mono", monospace; font-size: 13px; background: #f0f2f4; border-radius: 6px }
code { padding: 2px 5px } pre { padding: 14px; overflow: hidden } pre code { padding: 0 }
"""


def run(*arguments: str) -> int:
    """Run `gradtwin …` in this process; the exit status."""
    with mock.patch.object(sys, "argv", ["gradtwin", *arguments]):
        try:
            cli.main()
        except SystemExit as stopped:
            return int(stopped.code or 0)
    return 0


def recording(console: Console) -> contextlib.AbstractContextManager:
    """While the block runs, commands print on a console that records: without a bar, and in this process."""
    return mock.patch.multiple(
        running,
        make_console=lambda: console,
        show_progress=lambda _: ProgressLines(),
        can_watch=lambda: False,
    )


def failure(folder: Path) -> str:
    """The SVG of a terminal in which the command fails."""
    (folder / "models.py").write_text(FACTORY)
    recorded = Console(record=True, width=400, file=io.StringIO(), highlight=False, force_terminal=True)
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "path", [str(folder), *sys.path]),
        recording(recorded),
    ):
        status = run(*COMMAND)
    assert status == 1, "the model of the picture must fail its check"
    terminal = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False, force_terminal=True)
    terminal.print(f"$ gradtwin {' '.join(COMMAND)}", style="bold", markup=False)
    for line in recorded.export_text(styles=True).splitlines():
        terminal.print(Text.from_ansi(line.rstrip()))  # folded at the terminal's width, as a terminal does
    svg = terminal.export_svg(title="gradtwin", unique_id="failure")
    # the fonts of rich's template lie on another host: the viewer's own monospaced font takes their place
    return re.sub(r"@font-face\s*{.*?}\s*", "", svg, flags=re.DOTALL)


def lesson(folder: Path) -> bytes:
    """The screenshot of the lesson: its part "One epoch"."""
    assert run("lesson", "recipe1", "-o", str(folder / "lesson.html")) == 0
    return photograph(folder / "lesson.html", LESSON_WINDOW, part="#step")


def summary(folder: Path) -> bytes:
    """The screenshot of a step's summary."""
    from markdown_it import MarkdownIt

    (folder / "models.py").write_text(FACTORY)
    written = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "path", [str(folder), *sys.path]),
        mock.patch.dict(os.environ, written),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        status = run("check", "models:build", "models:right")
    assert status == 1, "the model of the picture must fail its check"
    markdown = (
        (folder / "summary.md").read_text(encoding="utf-8").replace("❌", "✘").replace("✅", "✔")
    )  # no emoji font here
    body = MarkdownIt("commonmark").enable("table").render(markdown)
    page = folder / "summary.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{body}", encoding="utf-8")
    return photograph(page, SUMMARY_WINDOW)


def photograph(page: Path, window: tuple[int, int], *, part: str = "") -> bytes:
    """The picture of a page, or of the part of it that a link names, as a PNG of few colours, so that it is small."""
    import tensorflow as tf

    shot, (width, height) = page.with_suffix(".png"), window
    subprocess.run(
        [
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={page.parent / 'profile'}",
            f"--window-size={width},{height}",
            "--virtual-time-budget=8000",
            f"--screenshot={shot}",
            page.as_uri() + part,
        ],
        check=True,
        capture_output=True,
    )
    pixels = tf.io.decode_png(shot.read_bytes(), channels=3).numpy()
    colours, where, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    palette = colours[np.argsort(-counts)[:COLOURS]]
    distances = np.square(colours[:, None].astype(float) - palette).sum(axis=-1)
    indices = distances.argmin(axis=1)[where].reshape(pixels.shape[:2])
    return indexed_png(indices.astype(np.uint8), palette)


def indexed_png(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """A PNG of 8-bit indices (height, width) into a palette (colours, 3).

    Source  ISO/IEC 15948, sections 5.3 (chunks) and 11.2 (IHDR, PLTE, IDAT, IEND); every row has filter type 0
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = indices.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), indices], axis=1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", palette.astype(np.uint8).tobytes())
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def main(images: Path = IMAGES) -> None:
    """Write the pictures into a folder."""
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        (images / "failure.svg").write_text(failure(Path(name)), encoding="utf-8")
        (images / "lesson.png").write_bytes(lesson(Path(name)))
        (images / "summary.png").write_bytes(summary(Path(name)))
    for picture in sorted(images.iterdir()):
        print(f"{picture.stat().st_size / 1e3:6.0f} kB  {picture}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
