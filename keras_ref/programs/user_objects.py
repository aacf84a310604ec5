"""What objects of the user hold, put back after a comparison: arrays, containers, attributes, generators."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from keras_ref.evaluation.changed_state.kept_contents import Reach, steps_to_undo
from keras_ref.evaluation.changed_state.kept_objects import find_kind

#: how deep objects are looked into
REACH = Reach(levels=8)


@contextmanager
def left_as_they_are(*objects: Any) -> Iterator[None]:
    """At the end of the block the objects hold what they held, bit for bit, in the same arrays and containers.

    The random state of PyTorch too, if it is loaded.
    """
    with ExitStack() as stack:
        for step in [*steps_to_undo(*objects, reach=REACH, kind_of=find_kind)]:
            stack.callback(step)
        if (torch := sys.modules.get("torch")) is not None:
            stack.callback(torch.random.set_rng_state, torch.random.get_rng_state())
        yield
