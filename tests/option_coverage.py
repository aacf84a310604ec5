"""Which options the examples reach: for every field of a layer, a loss and an optimizer, how often each legal value
came up, and what never did.

    python tests/option_coverage.py [layer|loss|optimizer] [NAME …]

A run of the suite counts what it really draws, and says at its end what it did not reach (`pytest --reached`: the
table).
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import optimizer_cases
from example_pools import KIND, legal, losses, options, pool

from scratch import registry

KINDS = ("layer", "loss", "optimizer")
#: (class, field, option) that examples do not reach, and why
REASONS = {
    (
        "STFTSpectrogram",
        "data_format",
        "'channels_first'",
    ): "Keras runs it compiled or on a GPU only: stft-channels-first-on-a-cpu",
    (
        "STFTSpectrogram",
        "frame_step",
        "None",
    ): "its examples() are seven whole specifications, each with a step of its own",
    (
        "STFTSpectrogram",
        "window",
        KIND,
    ): "windows given as numbers make other initial kernels, which no forward pass sees",
} | {
    (name, field, option): "a wrapper does not take it: it is set on the optimizer inside"
    for name in optimizer_cases.WRAPPERS
    for field, option in (
        *((way, KIND) for way in optimizer_cases.CLIPPING),
        ("use_ema", "True"),
        ("ema_overwrite_frequency", KIND),
        ("gradient_accumulation_steps", KIND),
        ("weight_decay", KIND),
        *((("loss_scale_factor", KIND),) if name == "LossScaleOptimizer" else ()),
    )
}


def specifications(kind: str, name: str) -> tuple[object, ...]:
    """What the examples of a definition are taken from."""
    if kind == "optimizer":
        return optimizer_cases.pool(name)
    return tuple(architecture.layer for architecture in pool(name)) if kind == "layer" else losses(name)


def unreached(kind: str, name: str, counts: Counter[tuple[str, ...]]) -> list[tuple[str, str, str]]:
    """The options of a definition that never came up, those with a reason left out."""
    return sorted(option for option in legal(kind, name) if not counts[(kind, *option)] and option not in REASONS)


def table(kind: str, name: str, counts: Counter[tuple[str, ...]]) -> list[str]:
    """A line for each field with a choice: how often each came up, and what never did, with the reason if any."""
    lines = []
    for field in registry.read_hints(registry.get(kind, name)):
        own = sorted(option for option in legal(kind, name) if option[1] == field)
        if not own:
            continue
        came = ", ".join(f"{option[2]} ×{counts[(kind, *option)]}" for option in own if counts[(kind, *option)])
        never = ", ".join(
            option[2] + (f" ({REASONS[option]})" if option in REASONS else "")
            for option in own
            if not counts[(kind, *option)]
        )
        lines.append(f"{name}.{field}: {came}" + (f"; never {never}" if never else ""))
    return lines


def counted(kind: str, name: str) -> Counter[tuple[str, ...]]:
    """The options of what the properties of a definition draw."""
    return Counter((kind, *option) for spec in specifications(kind, name) for option in options(spec))


def main(arguments: Iterable[str]) -> None:
    """Print the table of the kinds and names that are asked for, or of everything."""
    wanted = list(arguments)
    kinds = [kind for kind in KINDS if kind in wanted] or KINDS
    for kind in kinds:
        for name in registry.names(kind):
            if set(wanted) <= set(KINDS) or name in wanted:
                print("\n".join(table(kind, name, counted(kind, name))))


if __name__ == "__main__":
    main(sys.argv[1:])
