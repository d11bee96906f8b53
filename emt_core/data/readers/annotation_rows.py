"""Annotations of robot episodes as rows of the pool: a question about a frame, with its answer.

A question of the data keeps its words, with the picture of the camera that it is about. An
annotation without a question answers the episode's instruction, at the frame where it begins, with
the pictures of the source's cameras.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from emt_core.data.images.tiles import tiled
from emt_core.data.readers.annotation import Told, questions
from emt_core.data.readers.conversation import RowProblem, build_sample, encodable, reject
from emt_core.data.readers.robot_episodes import views_of
from emt_core.data.readers.robot_set import Episode, RobotSet, Steps
from emt_core.data.sample import Reject, Sample, Turn
from emt_core.errors import EmtError


def read_annotations(robot: RobotSet, styles: Sequence[str]) -> Iterator[Sample | Reject]:
    """Annotations of these styles by episode, frame and camera; an episode that cannot be read
    gives one reject.

    Raises EmtError: no such camera, files that make no sense together, a style that is nowhere.
    """
    robot.check_cameras()
    cameras_of: dict[str, set[str]] = {}
    shown: set[str] = set()
    row = 0
    for episode in robot.with_files(robot.episodes()):
        try:
            steps = robot.open(episode)
            told = list(questions(steps.annotations()))
        except (RowProblem, EmtError) as error:
            problem = error if isinstance(error, RowProblem) else _unreadable(error)
            yield reject(robot.source.name, row, problem, episode.own_id)
            row += 1
            continue
        for one in told:
            cameras_of.setdefault(one.style, set()).add(one.camera)
            for cameras in _views(robot, one) if one.style in styles else ():
                shown.add(one.style)
                try:
                    yield _sample(robot, episode, steps, one, cameras, row)
                except RowProblem as found:
                    yield reject(robot.source.name, row, found, episode.own_id)
                row += 1
    for style in styles:
        if style not in shown:
            raise _no_rows(robot, style, cameras_of)


def _no_rows(robot: RobotSet, style: str, cameras_of: Mapping[str, Set[str]]) -> EmtError:
    """The error for a style without a row: nowhere in the set, or of other cameras only."""
    what = f"source {robot.source.name!r}: no episode has an annotation {style!r}"
    remedy = f"its annotations are: {', '.join(sorted(cameras_of)) or 'none'}"
    if style in cameras_of:
        what = f"source {robot.source.name!r}: no {style!r} is about a camera that the source names"
        remedy = f"they are about: {', '.join(sorted(cameras_of[style]))}"
    return EmtError(what, where=robot.data, remedy=remedy)


def _unreadable(error: EmtError) -> RowProblem:
    return RowProblem("unreadable_row", error.what)


def _views(robot: RobotSet, told: Told) -> Sequence[tuple[str, ...]]:
    """The cameras of each row: its own, where it is grounded in one that the source reads."""
    if not told.camera:
        return views_of(robot.source)
    wanted = told.camera in robot.source.all_cameras or told.camera not in robot.cameras
    return [(told.camera,)] if wanted else []


def _sample(
    robot: RobotSet,
    episode: Episode,
    steps: Steps,
    told: Told,
    cameras: tuple[str, ...],
    row: int,
) -> Sample:
    place = f"episode {episode.index}, frame {told.frame}"
    if told.problem:
        raise RowProblem("unreadable_row", f"{place}: {told.problem}")
    if told.camera and told.camera not in robot.cameras:
        raise RowProblem("unreadable_row", f"{place}: a {told.style} of camera {told.camera!r}")
    if not told.answer:
        raise RowProblem("no_answer", f"{place}: a {told.style} without an answer")
    instruction = encodable(steps.instructions[steps.instruction[told.frame]]).strip()
    if not told.question and not instruction:
        raise RowProblem("empty_text", f"{place} {steps.no_instruction(told.frame)}")
    if not told.question and told.answer == instruction:
        raise RowProblem("no_answer", f"{place}: the {told.style} repeats the instruction")
    return build_sample(
        source=robot.source.name,
        row=row,
        role=robot.source.role,
        turns=(
            Turn(role="user", text=told.question or instruction),
            Turn(role="assistant", text=told.answer),
        ),
        images=(tiled([steps.image(camera, told.frame) for camera in cameras]),),
        missing="lead",
        own_id=episode.own_id,
        meta={**steps.meta(told.frame), "style": told.style, "camera": ", ".join(cameras)},
        episode=episode.index,
        frame=told.frame,
    )
