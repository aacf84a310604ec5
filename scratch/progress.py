"""The type of a progress callback, the same for everything here that takes long."""

from collections.abc import Callable
from typing import TypeAlias

#: progress(done, total, what): `done` of `total` parts are finished; `what` names the part
Progress: TypeAlias = Callable[[int, int, str], None]
