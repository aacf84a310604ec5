"""Hypothesis profiles and a quiet TensorFlow. `pytest --hypothesis-profile=dev|ci|nightly`; ci is the default."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import pytest
from hypothesis import HealthCheck, Phase, settings

from keras_ref.target import quiet_tensorflow

quiet_tensorflow()
pytest_plugins = ["pytester"]

COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("dev", max_examples=5, derandomize=True, **COMMON)
settings.register_profile("ci", max_examples=25, derandomize=True, **COMMON)
# ci without shrinking: to learn quickly which tests fail
settings.register_profile("scan", max_examples=25, derandomize=True, phases=[Phase.explicit, Phase.generate], **COMMON)
settings.register_profile("nightly", max_examples=500, **COMMON)
settings.load_profile("ci")
