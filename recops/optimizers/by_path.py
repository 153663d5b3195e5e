"""Several optimizers in one model, each for the variables of its paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from recops._core import compat
from recops._core.compat import keras


@compat.serializable
class ByPath(keras.optimizers.Optimizer):
    """Optimizers by variable: that of the first pattern found in a variable's path moves it.

    Wide & Deep is trained so, its wide part by FTRL and its deep part by Adam. Keras 3.15 has
    `keras.optimizers.MultiOptimizer` for this, earlier ones have nothing.

    Args:
      rules: {regular expression: optimizer}, looked for in the path of a variable
        ("linear/table/embeddings") in this order.
      default: the optimizer of all others.
      name: of the optimizer.

    Variables may have any shape. `learning_rate` is that of `default`. Each optimizer clips, decays
    and schedules its own variables and counts its own steps. Inside
    `keras.optimizers.LossScaleOptimizer` a step that is not finite is skipped by all; inside this
    one none is taken.

    Raises: ValueError for a pattern that is no regular expression, an optimizer that is given
    twice, or a `LossScaleOptimizer`; in `build` for a pattern that no variable has.

    Source: the two optimizers of Cheng et al., Wide & Deep Learning, DLRS 2016.

    Example:
      >>> from recops.optimizers import LazyAdam, LazyFTRL
      >>> from recops.features import SparseFeature
      >>> from recops.models import WideDeep
      >>> model = WideDeep([SparseFeature("user", 9), SparseFeature("item", 19)])
      >>> optimizer = ByPath({"^linear/": LazyFTRL(0.1, l1=0.5)}, LazyAdam(1e-3))
      >>> model.compile(optimizer, "binary_crossentropy")
    """

    def __init__(self, rules: Mapping[str, Any], default: Any, name: str = "by_path") -> None:
        super().__init__(**compat.optimizer_arguments(name))
        self.patterns = list(rules)
        # Keras saves what stands in a list of an optimizer with it.
        self.optimizers = [*rules.values(), default]
        self._chosen: list[int] = []
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"ByPath: {pattern!r} is no regular expression: {error}") from None
        for place, optimizer in enumerate(self.optimizers):
            if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
                raise ValueError(
                    "ByPath: takes no LossScaleOptimizer; put one around it, which then skips the "
                    "step of all"
                )
            if any(optimizer is other for other in self.optimizers[:place]):
                raise ValueError(
                    f"ByPath: each pattern needs an optimizer of its own, got {optimizer.name!r} "
                    f"twice"
                )

    @property
    def learning_rate(self) -> Any:
        """That of the default."""
        return self.optimizers[-1].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.optimizers[-1].learning_rate = value

    def build(self, variables: Any) -> None:
        """Make the state of all; called once, by Keras."""
        if compat.is_built(self):
            return
        super().build(variables)
        if len(self._chosen) != len(variables):
            self._chosen = self._found(variables)
        for optimizer, part in zip(self.optimizers, self._parts((v, v) for v in variables)):
            if part:
                optimizer.build([variable for _, variable in part])
        compat.mark_built(self)

    def _found(self, variables: Any) -> list[int]:
        """The place among the optimizers of that of each variable."""
        paths = [compat.path_of(variable) for variable in variables]
        places = range(len(self.patterns))
        chosen = [
            next((i for i in places if re.search(self.patterns[i], path)), len(self.patterns))
            for path in paths
        ]
        for place in places:
            if place not in chosen:
                raise ValueError(
                    f"ByPath: no variable has {self.patterns[place]!r} in its path (or an earlier "
                    f"pattern took it); there are {', '.join(paths)}"
                )
        return chosen

    def apply_gradients(self, grads_and_vars: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """One step of all."""
        pairs = [(gradient, variable) for gradient, variable in grads_and_vars]
        self.build([variable for _, variable in pairs])
        for optimizer, part in zip(self.optimizers, self._parts(pairs)):
            if any(gradient is not None for gradient, _ in part):
                optimizer.apply_gradients(part, *args, **kwargs)
        self.iterations.assign_add(1)
        return self.iterations

    def apply(self, grads: Iterable[Any], trainable_variables: Any = None) -> None:
        """Keras 3's."""
        variables = (
            self._trainable_variables if trainable_variables is None else trainable_variables
        )
        self.apply_gradients(zip(grads, variables))

    def _parts(self, pairs: Iterable[tuple[Any, Any]]) -> list[list[tuple[Any, Any]]]:
        """Pairs of something and its variable, by optimizer."""
        parts: list[list[tuple[Any, Any]]] = [[] for _ in self.optimizers]
        for pair in pairs:
            parts[self._chosen[compat.slot_index(self, pair[1])]].append(pair)
        return parts

    def get_config(self) -> dict[str, Any]:
        *chosen, default = [keras.optimizers.serialize(each) for each in self.optimizers]
        return {
            "rules": dict(zip(self.patterns, chosen)),
            "default": default,
            "name": self.name,
            "chosen": self._chosen,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ByPath:
        def made(each: Any) -> Any:
            return keras.optimizers.deserialize(each, custom_objects=custom_objects)

        rules = {pattern: made(each) for pattern, each in config["rules"].items()}
        optimizer = cls(rules, made(config["default"]), config["name"])
        # Keras 2 names the weights of a loaded model anew.
        optimizer._chosen = list(config.get("chosen", ()))
        return optimizer
