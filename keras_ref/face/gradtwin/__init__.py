"""gradtwin by its own name: `from gradtwin import check_gradients`.

The names are those of keras_ref (keras_ref/__init__.py says what each is), imported when they are first used.
"""

from importlib import metadata
from typing import TYPE_CHECKING, Any

import keras_ref

__all__ = list(keras_ref.__all__)

if TYPE_CHECKING:
    from keras_ref import *  # noqa: F403 (its public names, with their types)

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name == "__version__":
            return metadata.version("gradtwin")
        if name in __all__:
            return getattr(keras_ref, name)
        raise AttributeError(f"module 'gradtwin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
