"""HIPS autograd: a dictionary with `autograd_forward` and `parameters`."""

import numpy as np

from keras_ref.programs.program import Facts, Point, Program, Stage, Trace, Weight, cast, flatten_arrays, program


@program
class HipsAutograd(Program):
    """A function of a dictionary of arrays, differentiated by HIPS autograd."""

    prefix = "autograd"
    needs = ("autograd", "autograd")

    @classmethod
    def accepts(cls, value):
        return isinstance(value, dict) and "autograd_forward" in value

    def facts(self):
        value = self.load()[0]
        return Facts(
            kind="HIPS autograd",
            weights=tuple(Weight(name=n, shape=np.shape(v), known=False) for n, v in value["parameters"].items()),
            stages=(Stage.FORWARD, Stage.GRADIENT, *((Stage.LOSS,) if "loss" in value else ())),
        )

    def values(self):
        return {name: np.asarray(v, dtype=float) for name, v in self.load()[0]["parameters"].items()}

    def run(self, point: Point):
        import autograd
        import autograd.numpy as anp

        value = self.load()[0]
        weights, x = cast(dict(point.weights), point.precision), cast(point.x, point.precision)
        output = value["autograd_forward"](weights, x)

        def loss(weights):
            if point.cotangent is not None:
                return anp.sum(value["autograd_forward"](weights, x) * flatten_arrays(point.cotangent)[0])
            return value["loss"](weights, x, cast(point.y, point.precision))

        tensors = {"output": np.asarray(output)}
        if point.cotangent is None and ("loss" not in value or point.y is None):
            return Trace(tensors=tensors)
        gradient = autograd.grad(loss)(weights) if point.gradient else {}
        return Trace(tensors=tensors, loss=float(loss(weights)), gradient=gradient)
