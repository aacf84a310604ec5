"""Hypothesis profiles and a quiet TensorFlow. `pytest --hypothesis-profile=dev|ci|shrink|nightly`; ci is the default."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

from hypothesis import HealthCheck, Phase, settings

from keras_ref.target import quiet_tensorflow

quiet_tensorflow()
pytest_plugins = ["pytester", "lesson_pages"]

COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
QUICK = [Phase.explicit, Phase.reuse, Phase.generate]
# ci does not shrink, which may take minutes for each failing test: `shrink` draws the same examples, and makes one small
settings.register_profile("ci", max_examples=25, derandomize=True, phases=QUICK, **COMMON)
settings.register_profile("shrink", max_examples=25, derandomize=True, **COMMON)
settings.register_profile("dev", max_examples=5, derandomize=True, phases=QUICK, **COMMON)
settings.register_profile("nightly", max_examples=500, **COMMON)
settings.load_profile("ci")
