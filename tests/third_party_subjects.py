"""Subjects of third-party packages as data (see third_party.py): how each is made, and what comes of it if it is right.

A subject is made from the package's module, which is imported when it is needed. The data are drawn, the same in every
run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Made:
    """A layer (also a model) or a function, what it is called on, and the variables that a function reads."""

    checked: Any
    inputs: tuple[Any, ...]
    variables: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """One row of the table.

    package, name   as the table calls them
    module          what is imported for it
    make            (module) → Made
    expected        the verdicts that a check may give
    why             why it differs, where its gradient is not the derivative, or nothing can be decided
    """

    package: str
    name: str
    module: str
    make: Callable[[Any], Made]
    expected: tuple[str, ...] = ("match", "kink", "disconnected")
    why: str = ""


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def positive(*shape: int) -> Any:
    return np.abs(drawn(*shape)) + 0.25


def fraction(*shape: int) -> Any:
    return 1 / (1 + np.exp(-drawn(*shape)))


def tokens(*shape: int) -> Any:
    return np.random.default_rng(0).integers(1, 5, shape)


def function_of_module(path: str, *inputs: Any) -> Callable[[Any], Made]:
    """A function by its dotted path in the module."""

    def make(module: Any) -> Made:
        found = module
        for part in path.split("."):
            found = getattr(found, part)
        return Made(found, inputs)

    return make


def _keras_hub() -> Iterator[Subject]:
    x, other = drawn(2, 4, 6), drawn(2, 3, 6)

    def row(name: str, make: Callable[[Any], Any], *inputs: Any, **options: Any) -> Subject:
        return Subject(
            "keras-hub", name, "keras_hub", lambda hub: Made(make(hub.layers), inputs or (x,), options=options)
        )

    for seed in range(3):
        yield row(f"FNetEncoder, input {seed}", lambda m: m.FNetEncoder(8), drawn(2, 4, 6, seed=seed))
    yield row("FNetEncoder gelu", lambda m: m.FNetEncoder(8, activation="gelu"))
    for name, options in {
        "TransformerEncoder": {},
        "TransformerEncoder norm first": {"normalize_first": True},
        "TransformerEncoder gelu": {"activation": "gelu"},
    }.items():
        yield row(name, lambda m, o=options: m.TransformerEncoder(8, 2, **o))
    yield row("TransformerDecoder", lambda m: m.TransformerDecoder(8, 2))
    yield row("TransformerDecoder cross", lambda m: m.TransformerDecoder(8, 2), x, other)
    yield row("CachedMultiHeadAttention", lambda m: m.CachedMultiHeadAttention(2, 3), x, x)
    yield row("PositionEmbedding", lambda m: m.PositionEmbedding(4))
    yield row("SinePositionEncoding", lambda m: m.SinePositionEncoding())
    yield row("RotaryEmbedding", lambda m: m.RotaryEmbedding())
    yield row("RotaryEmbedding scaled", lambda m: m.RotaryEmbedding(scaling_factor=2.0))
    yield row("RMSNormalization", lambda m: m.RMSNormalization(6))
    yield row("AlibiBias", lambda m: m.AlibiBias(), drawn(2, 2, 4, 4))
    yield row("TokenAndPositionEmbedding", lambda m: m.TokenAndPositionEmbedding(5, 4, 3), tokens(2, 4))
    yield row("ReversibleEmbedding", lambda m: m.ReversibleEmbedding(5, 3), tokens(2, 4))
    yield row("ReversibleEmbedding reversed", lambda m: m.ReversibleEmbedding(5, 6), x, reverse=True)
    yield row(
        "MaskedLMHead",
        lambda m: m.MaskedLMHead(5, activation="softmax", intermediate_activation="tanh"),
        x,
        mask_positions=np.array([[0, 2], [1, 3]]),
    )


def _keras_rs() -> Iterator[Subject]:
    x, y = drawn(3, 4), drawn(3, 4, seed=1)
    labels, scores = np.array([[1.0, 0.0, 2.0, 1.0], [0.0, 1.0, 0.0, 3.0]]), drawn(2, 4)

    def layer(name: str, make: Callable[[Any], Any], *inputs: Any) -> Subject:
        return Subject("keras-rs", name, "keras_rs", lambda rs: Made(make(rs.layers), inputs))

    yield layer("FeatureCross", lambda m: m.FeatureCross(), x, y)
    yield layer("FeatureCross projected", lambda m: m.FeatureCross(projection_dim=2), x, y)
    yield layer("FeatureCross tanh", lambda m: m.FeatureCross(pre_activation="tanh"), x, y)
    yield layer("DotInteraction", lambda m: m.DotInteraction(), [x, y, drawn(3, 4, seed=2)])
    yield layer("DotInteraction skip", lambda m: m.DotInteraction(skip_gather=True), [x, y])
    yield layer("DotInteraction self", lambda m: m.DotInteraction(self_interaction=True), [x, y])
    for combiner in ("mean", "sum", "sqrtn"):
        yield layer(f"EmbedReduce {combiner}", lambda m, c=combiner: m.EmbedReduce(5, 3, combiner=c), tokens(2, 3))
    for name in (
        *("ListMLELoss", "PairwiseHingeLoss", "PairwiseLogisticLoss", "PairwiseMeanSquaredError"),
        "PairwiseSoftZeroOneLoss",
    ):

        def make(rs: Any, name: str = name) -> Made:
            loss = getattr(rs.losses, name)()
            return Made(lambda scores: loss(labels.astype("float64"), scores), (scores,))

        yield Subject("keras-rs", name, "keras_rs", make)


def _keras_layers() -> Iterator[Subject]:
    """Layers of packages that follow tf.keras: Keras 2 with TF_USE_LEGACY_KERAS=1, else Keras 3."""
    x = drawn(2, 8, 3)
    for name, options in {
        "TCN": {},
        "TCN sequences": {"return_sequences": True},
        "TCN same": {"padding": "same"},
        "TCN skip off": {"use_skip_connections": False},
        "TCN batch norm": {"use_batch_norm": True},
        "TCN layer norm": {"use_layer_norm": True},
        "TCN tanh": {"activation": "tanh"},
    }.items():
        yield Subject(
            "keras-tcn",
            name,
            "tcn",
            lambda tcn, o=options: Made(tcn.TCN(nb_filters=3, kernel_size=2, dilations=(1, 2), **o), (x,)),
        )
    for name, make in {
        "SeqSelfAttention additive": lambda m: m.SeqSelfAttention(units=3),
        "SeqSelfAttention multiplicative": lambda m: m.SeqSelfAttention(units=3, attention_type="multiplicative"),
        "SeqSelfAttention local": lambda m: m.SeqSelfAttention(units=3, attention_width=3),
        "SeqWeightedAttention": lambda m: m.SeqWeightedAttention(),
        "ScaledDotProductAttention": lambda m: m.ScaledDotProductAttention(),
    }.items():
        yield Subject(
            "keras-self-attention", name, "keras_self_attention", lambda m, make=make: Made(make(m), (drawn(2, 4, 3),))
        )
    labels, p = np.array([1.0, 0.0, 1.0, 1.0]), fraction(4)
    yield Subject(
        *("focal-loss", "binary_focal_loss", "focal_loss"),
        lambda m: Made(lambda p: m.binary_focal_loss(labels, p, gamma=2.0), (p,)),
    )
    yield Subject(
        *("focal-loss", "binary_focal_loss logits", "focal_loss"),
        lambda m: Made(lambda p: m.binary_focal_loss(labels, p, gamma=2.0, from_logits=True), (drawn(4),)),
    )
    yield Subject(
        *("focal-loss", "sparse_categorical_focal_loss", "focal_loss"),
        lambda m: Made(
            lambda p: m.sparse_categorical_focal_loss(np.array([0, 2, 1]), p, gamma=2.0, from_logits=True),
            (drawn(3, 3),),
        ),
    )
    for name, make in {
        "QuantDense": lambda m: m.QuantDense(3),
        "QuantConv1D": lambda m: m.QuantConv1D(3, 2),
    }.items():
        yield Subject("larq", name, "larq", lambda lq, make=make: Made(make(lq.layers), (drawn(2, 5, 3),)))


def _deepctr() -> Iterator[Subject]:
    x = drawn(3, 4, 6)
    fields = [drawn(3, 1, 6, seed=seed) for seed in range(4)]
    rows: dict[str, tuple[Callable[[Any], Any], Any]] = {
        "AFMLayer": (lambda m: m.AFMLayer(), fields),
        "BiInteractionPooling": (lambda m: m.BiInteractionPooling(), x),
        "BilinearInteraction all": (lambda m: m.BilinearInteraction("all"), fields),
        "BilinearInteraction each": (lambda m: m.BilinearInteraction("each"), fields),
        "CIN": (lambda m: m.CIN((4, 4)), x),
        "CrossNet": (lambda m: m.CrossNet(), drawn(3, 5)),
        "CrossNet matrix": (lambda m: m.CrossNet(parameterization="matrix"), drawn(3, 5)),
        "CrossNetMix": (lambda m: m.CrossNetMix(low_rank=2, num_experts=2), drawn(3, 5)),
        "DNN": (lambda m: m.DNN((4, 3)), drawn(3, 5)),
        "FM": (lambda m: m.FM(), x),
        "FieldWiseBiInteraction": (lambda m: m.FieldWiseBiInteraction(), [x, x[:, ::-1]]),
        "FwFMLayer": (lambda m: m.FwFMLayer(4), x),
        "InnerProductLayer": (lambda m: m.InnerProductLayer(), fields),
        "InteractingLayer": (lambda m: m.InteractingLayer(3, 2), x),
        "OutterProductLayer": (lambda m: m.OutterProductLayer(), fields),
        "SENETLayer": (lambda m: m.SENETLayer(2), fields),
    }
    for name, (make, inputs) in rows.items():
        yield Subject("deepctr", name, "deepctr.layers", lambda m, make=make, inputs=inputs: Made(make(m), (inputs,)))


def _spektral() -> Iterator[Subject]:
    x, a = drawn(4, 3), np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]], float) / 3
    names = ("APPNPConv", "ARMAConv", "ChebConv", "DiffusionConv", "GATConv", "GCNConv", "GCSConv")
    makers: dict[str, Callable[[Any], Any]] = {name: lambda m, name=name: getattr(m, name)(2) for name in names}
    for name, make in makers.items():
        yield Subject("spektral", name, "spektral.layers", lambda m, make=make: Made(make(m), ([x, a],)))
    for name in ("GlobalAvgPool", "GlobalMaxPool", "GlobalSumPool", "GlobalAttnSumPool"):
        yield Subject(
            "spektral", name, "spektral.layers", lambda m, name=name: Made(getattr(m, name)(), (drawn(4, 3),))
        )
    yield Subject(
        "spektral", "GlobalAttentionPool", "spektral.layers", lambda m: Made(m.GlobalAttentionPool(3), (drawn(4, 3),))
    )
    yield Subject("spektral", "InnerProduct", "spektral.layers", lambda m: Made(m.InnerProduct(), (drawn(4, 3),)))


def _lattice_and_recommenders() -> Iterator[Subject]:
    x = fraction(4, 2)
    for name, make, inputs in (
        ("Lattice", lambda m: m.Lattice([2, 3]), x),
        ("Lattice simplex", lambda m: m.Lattice([2, 2], interpolation="simplex"), x),
        ("KroneckerFactoredLattice", lambda m: m.KroneckerFactoredLattice(2, num_terms=2), x),
        ("Linear", lambda m: m.Linear(2), x),
        ("CDF", lambda m: m.CDF(3), x),
        ("PWLCalibration", lambda m: m.PWLCalibration(input_keypoints=[0.0, 0.3, 1.0]), fraction(4, 1)),
        ("CategoricalCalibration", lambda m: m.CategoricalCalibration(3), np.array([[0], [2], [1]])),
    ):
        yield Subject(
            "tensorflow-lattice",
            name,
            "tensorflow_lattice.layers",
            lambda m, make=make, inputs=inputs: Made(make(m), (inputs,)),
        )
    a, b = drawn(3, 4), drawn(3, 4, seed=1)
    for name, make, given in (
        ("Cross", lambda m: m.dcn.Cross(), (a, b)),
        ("Cross low rank", lambda m: m.dcn.Cross(projection_dim=2), (a, b)),
        ("DotInteraction", lambda m: m.feature_interaction.DotInteraction(), ([a, b],)),
        ("MLP", lambda m: m.blocks.MLP([3, 2]), (a,)),
        ("MultiLayerDCN", lambda m: m.feature_interaction.MultiLayerDCN(2), (a,)),
    ):
        yield Subject(
            "tensorflow-recommenders",
            name,
            "tensorflow_recommenders.layers",
            lambda m, make=make, given=given: Made(make(m), given),
        )


XLOGY = "TensorFlow's xlogy has the derivative 0 at 0, where it is log y (`gradtwin findings`)"
#: distribution → its parameters, and then a value
DISTRIBUTIONS: dict[str, tuple[Any, ...]] = {
    "Bernoulli": (drawn(3), np.array([0, 1, 1])),
    "Beta": (positive(3), positive(3) + 1, fraction(3)),
    "Categorical": (drawn(3, 4), np.array([0, 3, 1])),
    "Cauchy": (drawn(3), positive(3), drawn(3, seed=1)),
    "Dirichlet": (positive(2, 3), np.full((2, 3), [0.2, 0.3, 0.5])),
    "ExponentiallyModifiedGaussian": (drawn(3), positive(3), positive(3) + 1, drawn(3, seed=1)),
    "Gamma": (positive(3), positive(3) + 1, positive(3)),
    "GeneralizedNormal": (drawn(3), positive(3), positive(3) + 1, drawn(3, seed=1)),
    "Gumbel": (drawn(3), positive(3), drawn(3, seed=1)),
    "HalfCauchy": (np.zeros(3), positive(3), positive(3)),
    "HalfNormal": (positive(3), positive(3)),
    "InverseGamma": (positive(3), positive(3) + 1, positive(3)),
    "JohnsonSU": (drawn(3), positive(3), drawn(3), positive(3), drawn(3, seed=1)),
    "Kumaraswamy": (positive(3), positive(3) + 1, fraction(3)),
    "Laplace": (drawn(3), positive(3), drawn(3, seed=1)),
    "LogNormal": (drawn(3), positive(3), positive(3)),
    "Logistic": (drawn(3), positive(3), drawn(3, seed=1)),
    "LogitNormal": (drawn(3), positive(3), fraction(3)),
    "Moyal": (drawn(3), positive(3), drawn(3, seed=1)),
    "MultivariateNormalDiag": (drawn(2, 3), positive(2, 3), drawn(2, 3, seed=1)),
    "MultivariateNormalTriL": (drawn(3), np.tril(drawn(3, 3)) + 2 * np.eye(3), drawn(3, seed=1)),
    "NegativeBinomial": (positive(3), drawn(3), np.array([1.0, 2.0, 4.0])),
    "Normal": (drawn(3), positive(3), drawn(3, seed=1)),
    "Pareto": (positive(3), np.full(3, 0.2), positive(3)),
    "SinhArcsinh": (drawn(3), positive(3), drawn(3), positive(3), drawn(3, seed=1)),
    "StudentT": (positive(3) + 2, drawn(3), positive(3), drawn(3, seed=1)),
    "VonMises": (drawn(3), positive(3), drawn(3, seed=1)),
    "Weibull": (positive(3) + 1, positive(3), positive(3)),
}
BIJECTORS = ("Exp", "GumbelCDF", "NormalCDF", "Sigmoid", "SinhArcsinh", "Softplus", "Softsign", "Tanh", "Square")
PSD_KERNELS = (
    *("ExpSinSquared", "ExponentiatedQuadratic", "Linear", "MaternOneHalf", "MaternThreeHalves", "MaternFiveHalves"),
    *("Polynomial", "RationalQuadratic"),
)
#: function of tfp.math → its arguments
MATHS: dict[str, tuple[Any, ...]] = {
    "erfcinv": (fraction(3),),
    "fill_triangular": (drawn(6),),
    "lambertw": (positive(3),),
    "lbeta": (positive(3), positive(3) + 1),
    "log1psquare": (drawn(3),),
    "log_cosh": (drawn(3),),
    "log_sub_exp": (positive(3) + 2, positive(3)),
    "logerfc": (drawn(3),),
    "logerfcx": (drawn(3),),
    "owens_t": (drawn(3), drawn(3, seed=1)),
    "reduce_weighted_logsumexp": (drawn(3), positive(3)),
    "smootherstep": (fraction(3),),
    "softplus_inverse": (positive(3),),
    "sqrt1pm1": (positive(3),),
}


def _tensorflow_probability() -> Iterator[Subject]:
    package = "tensorflow-probability"

    def density(name: str, given: tuple[Any, ...]) -> Callable[[Any], Made]:
        def make(tfp: Any) -> Made:
            kind = getattr(tfp.distributions, name)
            return Made(lambda *arguments: kind(*arguments[:-1]).log_prob(arguments[-1]), given)

        return make

    for name, given in DISTRIBUTIONS.items():
        yield Subject(package, name, "tensorflow_probability", density(name, given))
    for name in ("Gamma", "Weibull"):
        given = (np.ones(3), positive(3), positive(3))
        yield Subject(
            *(package, f"{name} at concentration 1", "tensorflow_probability", density(name, given)),
            ("mismatch", "match"),
            XLOGY,
        )
    for name in BIJECTORS:

        def forward(tfp: Any, name: str = name) -> Made:
            one = getattr(tfp.bijectors, name)()
            return Made(lambda x: (one.forward(x), one.forward_log_det_jacobian(x, 0)), (positive(4),))

        yield Subject(package, f"bijector {name}", "tensorflow_probability", forward)
    for name in PSD_KERNELS:

        def kernel(tfp: Any, name: str = name) -> Made:
            kind = getattr(tfp.math.psd_kernels, name)
            options = {} if name in ("Linear", "Polynomial") else {"amplitude": np.float64(0.75)}
            return Made(lambda x: kind(**options).matrix(x, x[:2]), (drawn(4, 2),))

        yield Subject(package, f"kernel {name}", "tensorflow_probability", kernel)
    for name, given in MATHS.items():
        yield Subject(package, f"math.{name}", "tensorflow_probability", function_of_module(f"math.{name}", *given))


def _gpflow() -> Iterator[Subject]:
    x = drawn(5, 1)
    y = np.sin(x)
    for name in ("SquaredExponential", "Matern32", "Matern52", "RationalQuadratic", "Cosine", "ArcCosine", "Linear"):

        def kernel(gpflow: Any, name: str = name) -> Made:
            one = getattr(gpflow.kernels, name)()
            return Made(lambda x: one(x, x[:3]), (x,), tuple(one.trainable_variables))

        yield Subject("gpflow", f"kernel {name}", "gpflow", kernel)

    def model(make: Callable[[Any], Any], *, is_data_needed: bool = False) -> Callable[[Any], Made]:
        def made(gpflow: Any) -> Made:
            one = make(gpflow)
            loss = (lambda: one.training_loss((x, y))) if is_data_needed else one.training_loss
            return Made(loss, (), tuple(one.trainable_variables))

        return made

    rbf: Callable[[Any], Any] = lambda g: g.kernels.SquaredExponential()  # noqa: E731
    yield Subject("gpflow", "GPR", "gpflow", model(lambda g: g.models.GPR((x, y), rbf(g))))
    yield Subject("gpflow", "SGPR", "gpflow", model(lambda g: g.models.SGPR((x, y), rbf(g), x[:2])))
    yield Subject("gpflow", "VGP", "gpflow", model(lambda g: g.models.VGP((x, y), rbf(g), g.likelihoods.Gaussian())))
    yield Subject(
        "gpflow",
        "SVGP",
        "gpflow",
        model(lambda g: g.models.SVGP(rbf(g), g.likelihoods.Gaussian(), x[:2]), is_data_needed=True),
    )


SUBJECTS: tuple[Subject, ...] = (
    *_deepctr(),
    *_keras_layers(),
    *_keras_hub(),
    *_keras_rs(),
    *_spektral(),
    *_lattice_and_recommenders(),
    *_tensorflow_probability(),
    *_gpflow(),
)
