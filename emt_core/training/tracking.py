"""Curves in trackers beside steps.jsonl (`runtime.report_to`), over accelerate's tracker classes.

    WORKSPACE/tracking/trackio/                 trackio's database, a project for each stage
    WORKSPACE/tracking/tensorboard/STAGE/RUN/   event files
    WORKSPACE/tracking/wandb/                   what wandb keeps on this machine

RUN is LABEL-KEY. A resumed run goes on in its own: each tracker says which step it holds last, the
steps of steps.jsonl that it lacks are sent, and those that the resumed run repeats are not sent
again. A tracker that fails is named once in the log and left out; it never ends a training.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.run.stage import Context
from emt_core.workspace.process import rank

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

FOLDER = "tracking"
"""Below the workspace."""

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""What torchrun sets, and accelerate joins the other ranks for."""

TRACKIO_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Variables that make trackio write to a server."""

NO_STEP = -1
"""Last step of a tracker that holds nothing yet."""


class Tracking:
    """The open trackers of one run. Without any, `log` does nothing."""

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self._say = say
        self._open: dict[str, tuple[GeneralTracker, int]] = {}

    def add(self, name: str, opener: Callable[[], tuple[GeneralTracker, int]]) -> None:
        """opener: starts a tracker, and says the last step that it holds."""
        with self._going_on_without(name):
            self._open[name] = opener()

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Send a step's finite numbers to each tracker that does not hold it yet."""
        numbers = {name: value for name, value in values.items() if _is_number(value)}
        numbers.pop("step", None)  # trackers keep it themselves
        for name, (tracker, last) in list(self._open.items()):
            if step > last:
                with self._going_on_without(name):
                    tracker.log(numbers, step=step)
                    self._open[name] = tracker, step

    def close(self) -> None:
        for name, (tracker, _) in list(self._open.items()):
            with self._going_on_without(name), redirect_stdout(io.StringIO()):
                tracker.finish()
        self._open.clear()

    @contextmanager
    def _going_on_without(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a tracker raises, the training is worth more
            self._open.pop(name, None)
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._say(f"{name} failed, the run goes on without it (steps.jsonl has all): {why}")


@contextmanager
def open_tracking(stage: str, context: Context) -> Iterator[Tracking]:
    """The trackers that the recipe names, for one stage's run; none on rank 1 and up."""
    tracking = Tracking(context.progress.say)
    names = context.runtime.report_to
    if not names or rank():
        yield tracking
        return
    key = context.out.parent.name.removesuffix(".building")
    folder = context.workspace.path / FOLDER
    openers = {"trackio": _open_trackio, "wandb": _open_wandb, "tensorboard": _open_tensorboard}
    config = flat(context.config.model_dump(mode="json"))
    with _accelerate_logs():
        for name in names:
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            run = f"{context.progress.label}-{key}"
            context.progress.say(f"steps go to {name}, run {run}: {place}")
            tracking.add(name, partial(openers[name], place, stage, run, config))
        try:
            yield tracking
        finally:
            tracking.close()


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """`{"head": {"latent": 16}}` -> `{"head.latent": 16}`; lists become text, as trackers ask."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}.")
        else:
            plain = value is None or isinstance(value, (bool, int, float, str))
            found[above + name] = value if plain else str(value)
    return found


def _is_number(value: Any) -> bool:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return numeric and math.isfinite(value)


# ---- one function a tracker: (the tracker, the last step that it holds)


def _open_trackio(
    folder: Path, stage: str, run: str, config: Mapping[str, Any]
) -> tuple[GeneralTracker, int]:
    """A local run. Nothing is sent: neither to a Space or server, nor to ask who is logged in."""
    os.environ.setdefault("TRACKIO_DIR", str(folder))  # trackio reads it when it is imported
    import trackio  # pyright: ignore[reportMissingImports]
    from accelerate.tracking import TrackioTracker
    from trackio.sqlite_storage import (  # pyright: ignore[reportMissingImports]
        SQLiteStorage,
    )

    quiet = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
    tracker = TrackioTracker(f"emt-{stage}", name=run, resume="allow", config=dict(config), **quiet)
    with _offline(), _without_variables(TRACKIO_ELSEWHERE), redirect_stdout(io.StringIO()):
        tracker.start()
    tracker.finish = trackio.finish  # the run's own would be repeated aloud at Python's end
    last = SQLiteStorage.get_max_step_for_run(f"emt-{stage}", run, run_id=tracker.tracker.id)
    return tracker, NO_STEP if last is None else last


def _open_wandb(
    folder: Path, stage: str, run: str, config: Mapping[str, Any]
) -> tuple[GeneralTracker, int]:
    from accelerate.tracking import WandBTracker

    where = {"id": run, "name": run, "dir": str(folder), "resume": "allow"}
    tracker = WandBTracker(f"emt-{stage}", config=dict(config), **where)
    tracker.start()
    return tracker, tracker.tracker.step - 1


def _open_tensorboard(
    folder: Path, stage: str, run: str, config: Mapping[str, Any]
) -> tuple[GeneralTracker, int]:
    from accelerate.tracking import TensorBoardTracker

    last = _last_event(folder / stage / run)
    tracker = TensorBoardTracker(run, folder / stage)
    tracker.start()
    if last == NO_STEP:
        tracker.store_init_configuration(dict(config))
    return tracker, last


def _last_event(folder: Path) -> int:
    """The last step in a folder's event files."""
    from tensorboard.backend.event_processing import (  # pyright: ignore[reportMissingImports]
        event_accumulator,
    )

    if not folder.is_dir():
        return NO_STEP
    events = event_accumulator.EventAccumulator(
        str(folder), size_guidance={event_accumulator.SCALARS: 1}
    )
    events.Reload()
    return max((events.Scalars(tag)[-1].step for tag in events.Tags()["scalars"]), default=NO_STEP)


# ---- surroundings


@contextmanager
def _accelerate_logs() -> Iterator[None]:
    """What accelerate's trackers need for their own log lines: its state of this process.

    A training has it. Where there is none it is made for this process alone: under torchrun
    accelerate would wait for ranks that do not come (only rank 0 evaluates).
    """
    from accelerate.state import PartialState

    if PartialState._shared_state:
        yield
        return
    with _without_variables(RANKS):
        PartialState(cpu=True)
    try:
        yield
    finally:
        PartialState._reset_state()


@contextmanager
def _without_variables(names: Sequence[str]) -> Iterator[None]:
    """The environment without these."""
    taken = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)


@contextmanager
def _offline() -> Iterator[None]:
    """huggingface_hub sends nothing: trackio asks it for the user's name, with their token."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
