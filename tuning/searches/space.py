"""What is searched: settings with their ranges, from `conf/models/*.yaml` and `tune.space`.

fm.alpha: {low: 0.01, high: 0.3, log: true}      numbers; `log` draws the exponent evenly, as rates want
coarse.num_leaves: {low: 7, high: 127, whole: true}
fm.k: {values: [4, 8, 16]}                       a choice
train.learning_rate: {by: optimizer.name, adam: {…}, sgd: {…}}      ranges that depend on another choice
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from optuna.trial import Trial

from conf import UserError
from conf.yaml_text import parse_yaml

Point = dict[str, Any]
"""Setting -> value."""


@dataclass(frozen=True)
class Numbers:
    """A range of numbers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Trial, name: str) -> float:
        if self.whole:
            return int(trial.suggest_int(name, int(self.low), int(self.high), log=self.log))
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))

    def grid(self, count: int) -> list[float]:
        """`count` numbers evenly from low to high, on the range's own scale."""
        shares = [0.5] if count == 1 else [i / (count - 1) for i in range(count)]
        numbers = [self._at(share) for share in shares]
        # A set: a narrow range of whole numbers has fewer than `count`.
        return sorted({round(number) for number in numbers}) if self.whole else numbers

    def around(self, points: Sequence[float]) -> "Numbers":
        """The part of the range where the good values `points` lie, with a tenth of the range to either side."""
        # A margin, because the best of a few points is seldom where the best is.
        positions = [self._position(float(value)) for value in points]
        low, high = max(min(positions) - 0.1, 0.0), min(max(positions) + 0.1, 1.0)
        return Numbers(self._at(low), self._at(high), self.log, self.whole)

    def _at(self, share: float) -> float:
        # 0 is the low end, 1 the high end, on the range's own scale.
        if not self.log:
            return self.low + share * (self.high - self.low)
        return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))

    def _position(self, value: float) -> float:
        # The inverse of `_at`.
        if self.high == self.low:
            return 0.5
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    @staticmethod
    def parameter(value: Any) -> Any:
        """A value as Optuna takes it, a list as its JSON text: samplers compute with arrays of values."""
        return json.dumps(value) if isinstance(value, tuple | list) else value

    def suggest(self, trial: Trial, name: str) -> Any:
        parameters = self.grid(len(self.values))
        return self.values[parameters.index(trial.suggest_categorical(name, parameters))]

    def grid(self, count: int) -> list[Any]:
        return [self.parameter(value) for value in self.values]

    def around(self, points: Sequence[Any]) -> "Choice":
        good_values = tuple(value for value in self.values if value in points)
        return Choice(good_values)


@dataclass(frozen=True)
class Depends:
    """A range for each value of another setting."""

    by: str
    ranges: Mapping[Any, Numbers]

    def widest(self) -> Numbers:
        """The smallest range that contains those of all choices."""
        parts = list(self.ranges.values())
        low, high = min(part.low for part in parts), max(part.high for part in parts)
        return Numbers(low, high, parts[0].log, parts[0].whole)


Range = Numbers | Choice | Depends


@dataclass(frozen=True)
class Space:
    """Setting -> range; one that depends on another stands after it."""

    ranges: Mapping[str, Range]

    def suggest(self, trial: Trial) -> Point:
        """Draw a point. A range that depends on a choice is one parameter per choice: `rate[adam]`."""
        point: Point = {}
        for name, bounds in self.ranges.items():
            if isinstance(bounds, Depends):
                chosen = point[bounds.by]
                point[name] = bounds.ranges[chosen].suggest(trial, f"{name}[{chosen}]")
            else:
                point[name] = bounds.suggest(trial, name)
        return point

    def grid(self, trials: int) -> list[dict[str, Any]]:
        """Points of a grid, as parameters for `suggest`, with as many values a range as `trials` allow (at least 2).

        The first `trials` points of it, in the order of the space: what does not fit is left out.
        """
        grids: list[dict[str, Any]] = []
        numbers = [n for n, r in self.ranges.items() if not isinstance(r, Choice)]
        choices = math.prod(len(r.values) for r in self.ranges.values() if isinstance(r, Choice))
        # The n-th root of the trials that each combination of choices can have; 1e-9 against 7.999… of a root.
        each = max(2, int((trials / choices) ** (1 / len(numbers)) + 1e-9)) if numbers else 1
        names = list(self.ranges)
        plain = [n for n in names if not isinstance(self.ranges[n], Depends)]
        for values in itertools.product(*(self.ranges[n].grid(each) for n in plain)):  # type: ignore[union-attr]
            base = dict(zip(plain, values, strict=True))
            dependent = {n: r for n, r in self.ranges.items() if isinstance(r, Depends)}
            options = [
                [(f"{n}[{base[r.by]}]", value) for value in r.ranges[base[r.by]].grid(each)]
                for n, r in dependent.items()
            ]
            grids += [{**base, **dict(extra)} for extra in itertools.product(*options)]
        return grids[:trials]

    def tune_param_space(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """For population-based training (Jaderberg et al. 2017): how Ray Tune draws every setting, and those of them
        that may change while a trial trains. Whole numbers and choices may not: most change the shape of a weight.
        """
        from ray import tune

        param_space: dict[str, Any] = {}
        changing: dict[str, Any] = {}
        for name, bounds in self.ranges.items():
            if isinstance(bounds, Choice):
                param_space[name] = tune.choice(list(bounds.values))
                continue
            at = bounds.widest() if isinstance(bounds, Depends) else bounds
            if at.whole:
                # Upper bounds are exclusive here, unlike Optuna's.
                param_space[name] = (tune.lograndint if at.log else tune.randint)(int(at.low), int(at.high) + 1)
            else:
                param_space[name] = changing[name] = (tune.loguniform if at.log else tune.uniform)(at.low, at.high)
        return param_space, changing

    def around(self, points: Sequence[Point]) -> "Space":
        """The part of the space that holds the good points."""
        zoomed: dict[str, Range] = {}
        for name, bounds in self.ranges.items():
            if isinstance(bounds, Depends):
                parts = {}
                for key, part in bounds.ranges.items():
                    values = [point[name] for point in points if point[bounds.by] == key]
                    if values:
                        # A choice that no good point made gets no range: it is left out of its own setting, too.
                        parts[key] = part.around(values)
                zoomed[name] = Depends(bounds.by, parts)
            else:
                zoomed[name] = bounds.around([point[name] for point in points])
        return Space(zoomed)


def space_of(model: str, family: str, over: Mapping[str, Any], only: Sequence[str] = ()) -> Space:
    """Ranges of `conf/models/<family>.yaml`, those of `<model>.yaml` over them, then `over` (`tune.space`).

    With `only`, these settings alone. Raises UserError for a range that can't be read.
    """
    values: dict[str, Any] = {}
    for name in dict.fromkeys((family, model)):
        file = files("conf").joinpath("models", f"{name}.yaml")
        if file.is_file():
            values |= parse_yaml(file.read_text(encoding="utf-8"), f"conf/models/{name}.yaml") or {}
    values |= over
    if unknown := [name for name in only if name not in values]:
        raise UserError(f"no range for {', '.join(unknown)}; there are ranges for {', '.join(values)}")
    if only:
        values = {name: value for name, value in values.items() if name in only}
    ranges = {name: read_range(name, value) for name, value in values.items()}
    for name, bounds in ranges.items():
        if isinstance(bounds, Depends) and not isinstance(ranges.get(bounds.by), Choice):
            raise UserError(f"range of {name}: it depends on {bounds.by}, which is not among the choices searched")
    # Choices first, in which `suggest` looks up the range that depends on them; the sort keeps the order otherwise.
    ordered = sorted(ranges.items(), key=lambda item: isinstance(item[1], Depends))
    return Space(dict(ordered))


def read_range(name: str, value: Any) -> Range:
    """One range as it is written in YAML."""
    try:
        if "by" in value:
            return Depends(str(value["by"]), {key: _numbers(part) for key, part in value.items() if key != "by"})
        if "values" in value:
            if not value["values"]:
                raise ValueError("it has no values")
            # YAML has lists, settings have tuples.
            return Choice(tuple(tuple(v) if isinstance(v, list) else v for v in value["values"]))
        return _numbers(value)
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"range of {name}, {value!r}: {error}") from None


def _numbers(value: Mapping[str, Any]) -> Numbers:
    numbers = Numbers(**value)
    if numbers.low > numbers.high or (numbers.log and numbers.low <= 0):
        raise ValueError("low must not be above high, and must be positive with log")
    return numbers
