"""The action map: recorded action to targets of the heads, and back. Saved with the policy.

    arm      scaled to [-1, 1] between `low` and `high` of each dimension, beyond them clipped
    gripper  binary: class 1 above the threshold; back: the mean of that class's recorded values
             continuous: scaled like the arm
    unused   never predicted; back: the data set's mean

kind `delta`: the arm is measured from a reference (a state) at the chunk's first frame, every step
of the chunk from the same one, so errors do not add up along the chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emt_core.data.robot.statistics import Blocks, percentiles, ranges
from emt_core.errors import EmtError
from emt_core.recipe.finetune import ActionConfig, Dimension

Block = tuple[np.ndarray, np.ndarray | None]
"""(actions float32 [n, A], reference float32 [n, R] at the first frame of each chunk, or None)"""


@dataclass(frozen=True, kw_only=True)
class ActionMap:
    """Plain numbers for policy.json. D arm dimensions, G gripper dimensions, A in the data set."""

    names: tuple[str, ...]
    """The data set's dimensions, in its order: the order of an executed action."""
    arm: tuple[int, ...]
    gripper: tuple[int, ...]
    delta: bool
    reference: tuple[int, ...]
    """delta: place in the reference vector for each arm dimension."""
    reference_column: str
    reference_names: tuple[str, ...] = ()
    """delta: the R dimensions of that column; () in policies of older versions."""
    arm_low: tuple[float, ...]
    arm_high: tuple[float, ...]
    binary: bool
    gripper_threshold: float
    gripper_low: tuple[float, ...]
    """binary: what is executed for class 0; continuous: the scale's lower end."""
    gripper_high: tuple[float, ...]
    mean: tuple[float, ...]
    """Of all A recorded dimensions."""

    @property
    def still(self) -> tuple[str, ...]:
        """Names of the predicted dimensions that have one value over the scale, or one class:
        nothing is learned of them, and that value is what is executed."""
        places = (*self.arm, *self.gripper)
        low = (*self.arm_low, *self.gripper_low)
        high = (*self.arm_high, *self.gripper_high)
        return tuple(
            self.names[place]
            for place, least, most in zip(places, low, high, strict=True)
            if least == most
        )

    def targets(
        self, actions: np.ndarray, reference: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(arm float32 [..., chunk, D] in [-1, 1], gripper float32 [..., chunk, G]: 0 or 1, or in
        [-1, 1]).

        actions: [..., chunk, A] in the data set's unit; reference: [..., R] at the chunk's first
        frame (kind delta).
        """
        arm = actions[..., list(self.arm)].astype(np.float64)
        if self.delta:
            arm = arm - self._reference(reference)
        grip = actions[..., list(self.gripper)].astype(np.float64)
        if self.binary:
            grip = (grip > self.gripper_threshold).astype(np.float64)
        else:
            grip = _scale(grip, self.gripper_low, self.gripper_high)
        return _scale(arm, self.arm_low, self.arm_high).astype(np.float32), grip.astype(np.float32)

    def actions(
        self, arm: np.ndarray, gripper: np.ndarray, reference: np.ndarray | None = None
    ) -> np.ndarray:
        """The inverse: float32 [..., chunk, A] in the data set's unit.

        arm: [..., chunk, D] in [-1, 1]; gripper: [..., chunk, G] probabilities of class 1, or
        values in [-1, 1]. Raises EmtError where kind delta is given no reference.
        """
        found = np.broadcast_to(np.asarray(self.mean), (*arm.shape[:-1], len(self.names))).copy()
        values = _unscale(arm.astype(np.float64), self.arm_low, self.arm_high)
        if self.delta:
            values = values + self._reference(reference)
        found[..., list(self.arm)] = values
        if self.gripper:
            low = np.asarray(self.gripper_low)
            high = np.asarray(self.gripper_high)
            grip = gripper.astype(np.float64)
            found[..., list(self.gripper)] = (
                np.where(grip > 0.5, high, low)
                if self.binary
                else _unscale(grip, self.gripper_low, self.gripper_high)
            )
        return found.astype(np.float32)

    def _reference(self, reference: np.ndarray | None) -> np.ndarray:
        if reference is None:
            raise EmtError(
                f"the policy's actions are relative to {self.reference_column!r}, and no reference "
                "was given",
                remedy="pass reference=, the robot's present state in the data set's order, to "
                "act()",
            )
        return np.asarray(reference, np.float64)[..., None, :][..., list(self.reference)]

    def check_reference(self, reference: np.ndarray | None, count: int) -> None:
        """Raises EmtError where kind delta has no finite reference [count, R] to measure from."""
        if not self.delta:
            return
        if reference is None:
            self._reference(reference)
        found = np.asarray(reference)
        wide = len(self.reference_names) or max(self.reference) + 1
        fits = found.ndim == 2 and len(found) == count and found.shape[1] >= wide
        if not fits or (self.reference_names and found.shape[1] != wide):
            raise EmtError(
                f"`reference` has shape {found.shape}, wanted is ({count}, {wide}): "
                f"{self.reference_column} of each",
                remedy=f"its dimensions: {', '.join(self.reference_names)}"
                if self.reference_names
                else "",
            )
        if not np.isfinite(found).all():
            raise EmtError("`reference` holds a number that is not finite")

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        if not self.reference_names:
            del found["reference_names"]  # nothing is measured from a state
        return found

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> ActionMap:
        """Raises EmtError where fields are missing or unknown."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in found.items()
        }
        try:
            return cls(**fields)
        except TypeError as error:
            raise EmtError(f"the policy's action map is incomplete: {error}") from error


def _scale(values: np.ndarray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """[low, high] -> [-1, 1], clipped; a dimension that never moves is 0."""
    lowest = np.asarray(low, np.float64)
    span = np.subtract(high, low)
    scaled = 2 * (values - lowest) / np.where(span > 0, span, 1.0) - 1
    return np.where(span > 0, np.clip(scaled, -1, 1), 0.0)


def _unscale(values: np.ndarray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    lowest = np.asarray(low, np.float64)
    span = np.subtract(high, low)
    return lowest + (np.clip(values, -1, 1) + 1) / 2 * span


def fit_action_map(
    config: ActionConfig,
    names: Sequence[str],
    reference_names: Sequence[str],
    blocks: Callable[[], Iterable[Block]],
    *,
    where: object = "",
) -> ActionMap:
    """Resolve names and measure the scale over all blocks, which are gone through several times.

    Raises EmtError for a dimension that the data set does not have, that is named twice, or that no
    list names.
    """
    arm, gripper, reference = find_dimensions(config, names, reference_names, where=where)
    delta = config.kind == "delta"

    def arm_values() -> Iterable[np.ndarray]:
        for actions, state in blocks():
            values = actions[:, arm]
            yield values - state[:, reference] if delta and state is not None else values

    arm_low, arm_high = _ends(config, arm_values)
    if config.gripper_kind == "binary" or not gripper:
        grip_low, grip_high = _class_means(blocks, gripper, config.gripper_threshold)
    else:
        grip_low, grip_high = _ends(
            config, lambda: (actions[:, gripper] for actions, _ in blocks())
        )
    _, _, mean = ranges(lambda: (actions for actions, _ in blocks()))
    return ActionMap(
        names=tuple(names),
        arm=tuple(arm),
        gripper=tuple(gripper),
        delta=delta,
        reference=tuple(reference),
        reference_column=config.reference_column,
        reference_names=tuple(reference_names),
        arm_low=_floats(arm_low),
        arm_high=_floats(arm_high),
        binary=config.gripper_kind == "binary",
        gripper_threshold=config.gripper_threshold,
        gripper_low=_floats(grip_low),
        gripper_high=_floats(grip_high),
        mean=_floats(mean),
    )


def find_dimensions(
    config: ActionConfig,
    names: Sequence[str],
    reference_names: Sequence[str],
    *,
    where: object = "",
) -> tuple[list[int], list[int], list[int]]:
    """(arm, gripper, reference): places of the dimensions that the configuration names.

    Raises EmtError as `fit_action_map` does, without reading an action.
    """
    gripper = _find_dimensions(config.gripper, names, where=where, field="action.gripper")
    unused = _find_dimensions(config.unused, names, where=where, field="action.unused")
    others = [place for place in range(len(names)) if place not in {*gripper, *unused}]
    arm = (
        _find_dimensions(config.arm, names, where=where, field="action.arm")
        if config.arm
        else others
    )
    _check_partition(names, arm, gripper, unused, where)
    reference = _find_dimensions(
        config.reference, reference_names, where=where, field="action.reference"
    )
    return arm, gripper, reference


def _find_dimensions(
    wanted: Sequence[Dimension], names: Sequence[str], *, where: object, field: str
) -> list[int]:
    """Places of dimensions given by name or number.

    Raises EmtError for one that the data set does not have or that is named twice.
    """
    places: list[int] = []
    for dimension in wanted:
        if isinstance(dimension, int) and 0 <= dimension < len(names):
            places.append(dimension)
        elif isinstance(dimension, str) and names.count(dimension) == 1:
            places.append(names.index(dimension))
        else:
            raise EmtError(
                f"{field}: the data set has no dimension {dimension!r}",
                where=where,
                remedy=f"its {len(names)} dimensions: {', '.join(names)}",
            )
    if len(set(places)) < len(places):
        raise EmtError(f"{field} names a dimension twice", where=where)
    return places


def _check_partition(
    names: Sequence[str], arm: list[int], gripper: list[int], unused: list[int], where: object
):
    everything = [*arm, *gripper, *unused]
    twice = sorted({names[place] for place in everything if everything.count(place) > 1})
    if twice:
        raise EmtError(
            f"action dimensions {twice} are in two lists",
            where=where,
            remedy="arm, gripper or unused",
        )
    left = [name for place, name in enumerate(names) if place not in everything]
    if left:
        raise EmtError(
            f"nothing says what to do with action dimensions {left}",
            where=where,
            remedy="name them in action.arm, action.gripper or action.unused",
        )
    if not arm:
        raise EmtError(
            "the action has no arm dimension", where=where, remedy="name at least one in action.arm"
        )


def _ends(config: ActionConfig, values: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of the scale, float64 [d] each; equal for a dimension that never moves."""
    if config.scale == "q01_q99":
        low, high = percentiles(values, (0.01, 0.99))
        return low, high
    low, high, _ = ranges(values)
    if config.scale == "clip":
        moves = low < high
        return np.where(moves, -config.clip, low), np.where(moves, config.clip, high)
    return low, high


def _class_means(
    blocks: Callable[[], Iterable[Block]], gripper: list[int], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean recorded value of class 0 and of class 1; one that never occurs has the other's."""
    sums = np.zeros((2, len(gripper)))
    counts = np.zeros((2, len(gripper)))
    for actions, _ in blocks():
        values = actions[:, gripper].astype(np.float64)
        above = values > threshold
        for class_, mask in enumerate((~above, above)):
            sums[class_] += np.where(mask, values, 0).sum(axis=0)
            counts[class_] += mask.sum(axis=0)
    means = sums / np.maximum(counts, 1)
    low = np.where(counts[0] > 0, means[0], means[1])
    high = np.where(counts[1] > 0, means[1], means[0])
    return low, high


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
