"""Spectral normalization: a wrapper that divides the kernel of a layer by its largest singular value."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from scratch.arrays import Array, unit
from scratch.fields import AtLeast, Domain, Shape, Size
from scratch.layers.base import Layer, Weights
from scratch.naming import weights_of
from scratch.registry import layer


@layer
class SpectralNormalization(Layer):
    """In training y = layer(x) with the kernel W / σ, and W ← W / σ; in inference y = layer(x) with the kernel W
    σ = v · W · uᵀ after `power_iterations` times v = u · Wᵀ / |u · Wᵀ|, u = v · W / |v · W|

    W is (…, n) as a matrix; u and v are constant under differentiation (`stopped`), σ is not:
    ∂L/∂W = (G - (G : W / σ) · vᵀ · u) / σ with G the gradient of the normalized kernel. A kernel of zeros is kept.
    Shapes  those of `layer`; vector_u (1, n)
    Keras   SpectralNormalization
    Source  Miyato et al. 2018, algorithm 1, eq. 8, 11, 12
    """

    layer: Layer
    power_iterations: Annotated[int, AtLeast(1, small=(1, 2))] = 1

    @property
    def state(self) -> tuple[str, ...]:
        return ("vector_u", *(f"layer/{name}" for name in self.layer.state))

    @cached_property
    def kernel(self) -> str:
        """Name of the weight that is normalized. Raises: ValueError for a layer without kernel or embeddings."""
        names = self.layer.weight_shapes(*self.layer.input_shapes(lambda low, _: low))
        for name in ("kernel", "embeddings"):
            if name in names:
                return name
        raise ValueError(
            "`layer` of a SpectralNormalization must have a weight `kernel` or `embeddings`. Received: "
            f"{type(self.layer).__name__} with {', '.join(names) or 'no weights'}. Wrap a layer that has one."
        )

    def check(self) -> None:
        """The layer has a weight to normalize."""
        _ = self.kernel

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        # In Keras the kernel is a variable of the wrapper, and the first one.
        own = self.layer.weight_shapes(*inputs)
        first: dict[str, Shape] = {f"layer/{self.kernel}": own[self.kernel], "vector_u": (1, own[self.kernel][-1])}
        return first | {f"layer/{name}": shape for name, shape in own.items()}

    def stopped(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        """u and v after the power iterations, from real parts, so that a complex step does not change them."""
        if not call.get("training"):
            return {}
        kernel, u = weights[f"layer/{self.kernel}"].real, weights["vector_u"].real
        matrix = kernel.reshape(-1, kernel.shape[-1])
        v = u @ matrix.T
        for _ in range(self.power_iterations if kernel.any() else 0):
            v = unit(u @ matrix.T, (0, 1))
            u = unit(v @ matrix, (0, 1))
        return {"u": u, "v": v}

    def _normalized(self, weights: Weights, fixed: Mapping[str, Array]) -> Array:
        kernel = weights[f"layer/{self.kernel}"]
        if not kernel.real.any():
            return kernel
        y: Array = kernel / (fixed["v"] @ kernel.reshape(-1, kernel.shape[-1]) @ fixed["u"].T)[0, 0]
        return y

    def forward(
        self, weights: Weights, *inputs: Array, training: bool = False, stopped: Mapping[str, Array] | None = None
    ) -> Any:
        own = weights_of(weights, "layer")
        if training:
            fixed = stopped or self.stopped(weights, *inputs, training=True)
            own[self.kernel] = self._normalized(weights, fixed)
        context = {"training": training} if "training" in self.layer.accepts else {}
        return self.layer.forward(own, *inputs, **context)

    def updates(self, weights: Weights, *inputs: Array, **call: Any) -> dict[str, Array]:
        if not call.get("training", True):
            return {}
        fixed = self.stopped(weights, *inputs, training=True)
        return {"vector_u": fixed["u"], f"layer/{self.kernel}": self._normalized(weights, fixed)}

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return self.layer.input_shapes(size)

    def input_domains(self) -> tuple[Domain, ...]:
        return self.layer.input_domains()

    @classmethod
    def examples(cls) -> tuple[SpectralNormalization, ...]:
        """Small legal specifications: around Dense, Conv2D and Embedding."""
        from scratch.layers.convolution import Conv2D
        from scratch.layers.core import Dense
        from scratch.layers.embedding import Embedding

        return cls(Dense(2)), cls(Dense(3, "tanh"), 2), cls(Conv2D(2, (2, 2))), cls(Embedding(3, 2))
