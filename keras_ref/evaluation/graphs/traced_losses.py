"""How losses run: in a traced graph, in one that AutoGraph makes, or eagerly; and which variables they meet there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import numpy as np

from keras_ref.errors import UserCodeFailed, running_user_code
from keras_ref.evaluation.changed_state.traced_functions import find_variables_met, recording_scope_leaks
from keras_ref.evaluation.graphs.graph import find_casts_down
from keras_ref.evaluation.keras_objects.keras_parts import unwrap_variable
from scratch.arrays import Array


class Way(Enum):
    """How a loss can be evaluated: in a traced graph, in one that AutoGraph makes, or eagerly, one after another."""

    UNKNOWN = "unknown"
    TRACED = "traced"
    AUTOGRAPH = "autograph"
    EAGER = "eager"


class TracedLosses(ABC):
    """Losses that are traced where that is possible. A loss function is one; what it needs of itself is abstract here.

    variables   those that the loss is differenced and differentiated by, by name
    """

    def __init__(self, *, variables: Mapping[str, Any], state: Iterable[Any]) -> None:
        self.variables = dict(variables)
        #: variables that a call may write; those that a trace finds are added
        self._state, self._state_values = list(state), list[Array]()
        #: how the loss runs, and why it is not traced
        self.way, self.refusal = Way.UNKNOWN, ""
        #: whether values are assigned to Keras variables, which traced functions read past any StatelessScope
        self.assigns = False

    @property
    def state(self) -> tuple[Any, ...]:
        """The variables that a call may write, as far as they are known by now."""
        return tuple(self._state)

    @abstractmethod
    def directional(
        self, direction: Mapping[str, Array], steps: Array, *, at: Mapping[str, Array] | None = None
    ) -> Array:
        """Losses (m,) along the point (or `at`) + step · direction; names left out of `direction` stay."""

    @abstractmethod
    def _forget_traces(self) -> None:
        """Forget what was traced before all state was known."""

    def complete(self, trace: Callable[[], Any], eagerly: Callable[..., Any]) -> Any:
        """A traced function of losses; `eagerly`, the same as it is, where they run only so.

        Variables that only the trace shows to be used are state from then on. Raises: UserCodeFailed.
        """
        traced = self._find_way(trace) if self.way is Way.UNKNOWN else None
        if self.way is Way.EAGER:
            return eagerly
        traced = trace() if traced is None else traced
        if self._take_as_state([(v, v.numpy()) for v in traced.graph.variables]):
            traced = trace()
        return traced

    def _take_as_state(self, found: Iterable[tuple[Any, Array]]) -> bool:
        """Let variables be state, with their values, and say whether any of them was not known."""
        known = {id(unwrap_variable(v)) for v in (*self.variables.values(), *self._state)}
        new = [(variable, value) for variable, value in found if id(variable) not in known]
        self._state += [variable for variable, _ in new]
        self._state_values += [value for _, value in new]
        if new:
            self._forget_traces()
        return bool(new)

    def _find_way(self, trace: Callable[[], Any]) -> Any:
        """Try how the loss runs, and return its trace; None where it runs only eagerly.

        Raises: UserCodeFailed, as the trace does, where it runs in no way.
        """
        first: UserCodeFailed | None = None
        for self.way in (Way.TRACED, Way.AUTOGRAPH):
            try:
                traced = self._reach(trace)
            except UserCodeFailed as failed:
                first = first or failed
            else:
                # AutoGraph turns float(tensor) into a cast to float32, which is not what the code computes
                if self.way is Way.TRACED or not find_casts_down(traced.graph):
                    return traced
        self.way = Way.EAGER
        try:
            self._reach(lambda: self.directional({}, np.zeros(1)))
            self._take_as_state(find_variables_met())
        except UserCodeFailed as failed:
            self.way = Way.TRACED
            self._forget_traces()
            raise first or failed from (first or failed).error
        self.refusal = type(first.error).__name__ if first is not None else ""
        return None

    def _reach(self, evaluate: Callable[[], Any]) -> Any:
        """The result of an evaluation of losses that reaches every variable: once more, with the variables assigned,
        where a traced function in it reads them past the scope.
        """
        with recording_scope_leaks() as leaks:
            try:
                with running_user_code():  # a trace as a whole may be refused: it makes variables
                    found = evaluate()
            except UserCodeFailed:
                if not leaks or self.assigns:
                    raise
            else:
                if not leaks:
                    return found
        self.assigns = True
        return evaluate()
