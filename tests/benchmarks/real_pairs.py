"""Pairs of programs that others wrote: what `compare` finds between them, and what proves who is right.

`python tests/benchmarks/real_pairs.py [NAME…]`; a pair whose packages are not installed is named and left out.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    sys.path[:0] = [str(HERE.parents[1]), str(HERE)]


def images(size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, size, size, 3))


def mobile_net() -> Any:
    """keras.applications.MobileNetV2 for small images, compiled."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=10)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="categorical_crossentropy")
    return model


def applications_on(backend: str) -> tuple[Any, ...]:
    return mobile_net(), f"keras-{backend}:real_pairs:mobile_net", images(), np.eye(10)[[3, 7]], {"steps": 1}


def torchvision_mobile_net() -> tuple[Any, ...]:
    """The same paper twice: keras.applications and torchvision."""
    import keras
    from torchvision.models import mobilenet_v2

    keras.utils.set_random_seed(0)
    own = keras.applications.MobileNetV2((32, 32, 3), weights=None, classes=10, classifier_activation=None)
    return own, mobilenet_v2(num_classes=10), images(), None, {"steps": 0}


def transformer_encoder() -> tuple[Any, ...]:
    """keras_hub.layers.TransformerEncoder and torch.nn.TransformerEncoderLayer; the norms stand in another order."""
    import keras
    import keras_hub
    from torch import nn

    keras.utils.set_random_seed(0)
    x = keras.Input((5, 6))
    own = keras.Model(x, keras_hub.layers.TransformerEncoder(8, 2, name="encoder")(x))
    names = [v.path.removeprefix(f"{own.name}/") for v in own.weights]
    norms = [n for n in names if n.endswith(("gamma", "beta"))]
    mapped = dict(zip(norms, ("norm1/gamma", "norm1/beta", "norm2/gamma", "norm2/beta"), strict=True))
    module = nn.TransformerEncoderLayer(6, 2, dim_feedforward=8, batch_first=True)
    return own, module, np.random.default_rng(0).normal(size=(3, 5, 6)), None, {"steps": 0, "map": mapped}


#: {name: (what makes it, packages)}
PAIRS: dict[str, Any] = {
    "applications on jax": (lambda: applications_on("jax"), ("jax",)),
    "applications on torch": (lambda: applications_on("torch"), ("torch",)),
    "mobilenet of torchvision": (torchvision_mobile_net, ("torch", "torchvision")),
    "transformer of keras-hub": (transformer_encoder, ("torch", "keras_hub")),
}


def main() -> int:
    from keras_ref import compare
    from keras_ref.programs.torch_beside_tensorflow import leave_out_triton

    leave_out_triton()  # torchvision would load it beside TensorFlow
    for name, (make, needs) in PAIRS.items():
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        missing = [one for one in needs if importlib.util.find_spec(one) is None]
        if missing:
            print(f"{name}: left out without {', '.join(missing)}")
            continue
        started = time.perf_counter()
        a, b, x, y, options = make()
        found = compare(a, b, x, y, **options)
        print(f"{name} ({len(found.matched)} weights, {len(found.rows)} places): {found.sentence}")
        print(f"  {time.perf_counter() - started:.0f} s, in {found.precision}", flush=True)
        for note in found.notes:
            print(f"  {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
