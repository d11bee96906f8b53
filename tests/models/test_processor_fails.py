"""A processor that fails is not a bad picture: what is odd is refused alone, all else stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from PIL import Image
from samples import conversation, picture
from small_world import small_world
from tiny_models import save_clip, save_internvl

from emt_core.errors import EmtError
from emt_core.evaluation.questions.answering import Answerer
from emt_core.evaluation.questions.question import Picture, Question
from emt_core.models.encoders.clip import ClipEncoder
from emt_core.models.encoders.vlm import VlmEncoder
from emt_core.models.prepared import Refused
from emt_core.models.refusals import ProcessorFails, RefusedShare, plain_picture
from emt_core.models.vlm.load import load_processor
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.training.midtrain.conversations import ConversationPreparer
from emt_core.workspace.artifact import Artifact, Workspace

ONE = conversation(0, ("user", "<image> What is it?"), ("assistant", "A cup."))
WORDS = conversation(1, ("user", "What is it?"), ("assistant", "A cup."), images=0)

RENAMED = TypeError("unexpected keyword 'crop_to_patches'")
"""What a new version of a library says to an option that it has renamed."""


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """broken(when, error): the VLM's processor raises it where `when(text, images)` holds."""
    call = transformers.InternVLProcessor.__call__

    def breaks(when: Any, error: Exception) -> None:
        def fails(self: Any, images: Any = None, text: Any = None, **options: Any) -> Any:
            if when(text[0], images or []):
                raise error
            return call(self, images=images, text=text, **options)

        monkeypatch.setattr(transformers.InternVLProcessor, "__call__", fails)

    return breaks


@pytest.fixture
def encoder(tmp_path: Path) -> VlmEncoder:
    return VlmEncoder(str(save_internvl(tmp_path / "vlm")))


@pytest.fixture
def preparer(tmp_path: Path) -> ConversationPreparer:
    return ConversationPreparer(load_processor(save_internvl(tmp_path / "vlm")), cutoff=256)


@pytest.mark.parametrize("error", [RENAMED, ValueError("no such option"), KeyError("size")])
@pytest.mark.parametrize("images", [True, False])
def test_one_that_fails_on_everything_stops_at_once(
    encoder: VlmEncoder, preparer: ConversationPreparer, broken: Any, error: Exception, images: bool
):
    broken(lambda text, seen: bool(seen) == images, error)
    sample, shown = (ONE, [picture(0)]) if images else (WORDS, [])
    for prepare in (
        lambda: encoder.prepare(sample, shown, "user"),
        lambda: preparer.prepare(sample, shown),
    ):
        with pytest.raises(ProcessorFails) as caught:
            prepare()
        assert str(error) in caught.value.what and caught.value.where == "InternVLProcessor"


def test_an_odd_picture_is_refused_alone_and_an_odd_text_by_its_own_name(
    encoder: VlmEncoder, preparer: ConversationPreparer, broken: Any
):
    broken(lambda text, seen: any(min(image.size) < 4 for image in seen), ValueError("too thin"))
    for prepare in (encoder.prepare, preparer.prepare):
        more = ("user",) if prepare == encoder.prepare else ()
        with pytest.raises(Refused) as refused:
            prepare(ONE, [picture(0, 300, 2)], *more)
        assert str(refused.value) == "image_refused: ValueError: too thin"
        prepare(ONE, [picture(0)], *more)
    broken(lambda text, seen: "What" in text and "cup" in text, ValueError("no cups"))
    for prepare in (
        lambda: encoder.prepare(ONE, [picture(0)], "full"),
        lambda: preparer.prepare(ONE, [picture(0)]),
    ):
        with pytest.raises(Refused) as refused:
            prepare()
        assert refused.value.reason == "text_refused"


def test_memory_that_runs_out_is_nobodys_fault(encoder: VlmEncoder, broken: Any):
    broken(lambda text, seen: True, MemoryError())
    with pytest.raises(MemoryError):
        encoder.prepare(ONE, [picture(0)], "user")


def test_clip_tells_them_apart_as_well(tmp_path: Path):
    encoder = ClipEncoder(str(save_clip(tmp_path / "clip")), tmp_path)
    transform = encoder.transform

    def thin(image: Image.Image) -> Any:
        if min(image.size) < 4:
            raise ZeroDivisionError("too thin")
        return transform(image)

    encoder.transform = thin
    with pytest.raises(Refused, match="too thin"):
        encoder.prepare(ONE, [picture(0, 300, 2)], "none")
    encoder.prepare(ONE, [picture(0)], "none")

    def renamed(image: Image.Image) -> Any:
        raise RENAMED

    encoder.transform = renamed
    with pytest.raises(ProcessorFails, match="crop_to_patches"):
        encoder.prepare(ONE, [picture(0)], "none")


def test_half_of_a_source_may_be_odd_and_no_more():
    odd = Refused("image_refused", "no grid")
    shares = RefusedShare()
    for _ in range(100):
        shares.count("a", None)
        shares.count("a", odd)
    for reason in ("missing_image", "too_many_images"):  # nothing that a processor has said
        for _ in range(100):
            shares.count("b", Refused(reason))
    for _ in range(63):
        shares.count("c", odd)
    with pytest.raises(EmtError, match=r"refuses 64 of the first 64 .*no grid") as caught:
        shares.count("c", odd)
    assert caught.value.where == "c"


def test_pictures_are_judged_by_themselves_among_rows_of_text():
    shares = RefusedShare()
    for _ in range(1000):
        shares.count("a", None, pictures=False)
    for _ in range(63):
        shares.count("a", Refused("image_refused", "no grid"))
    with pytest.raises(EmtError, match="refuses 64 of the first 64 "):
        shares.count("a", Refused("image_refused", "no grid"))
    for _ in range(200):  # odd words here and there are no fault of the processor
        shares.count("b", None, pictures=False)
        shares.count("b", Refused("text_refused", "no words"), pictures=False)


RECIPE = """
name: r
backbone: vlm
runtime: {workers: 0, batch: 4, device: cpu}
sources:
  - {name: web, role: pool, format: llava, path: web/web.json, image_root: images}
  - {name: arm, role: robot, format: lerobot, path: arm, camera: observation.images.front,
     frames_per_episode: 4}
embed: {encoder: ENCODER, model: vlm}
measure: {kind: perplexity, model: vlm, steps: 1, batch: 2, action_bins: 4}
score: {}
select: {strategy: random, k: 1, include_text_only: true}
category: {}
midtrain: {steps: 40, batch: 4}
"""


def run(folder: Path, until: str, encoder: str = "vlm") -> Artifact:
    text = RECIPE.replace("ENCODER", encoder)
    (folder / "r.yaml").write_text(text)
    plan = make_plan(load_recipe(folder / "r.yaml"))
    return run_plan(plan, Workspace.open(folder / "ws", create=True), until=until, quiet=True)[
        until
    ]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    small_world(tmp_path, episodes=4, pool_rows=96)
    save_internvl(tmp_path / "vlm")
    return tmp_path


@pytest.mark.parametrize("stage", ["embed", "measure", "midtrain"])
def test_stages_stop_with_the_processors_own_words(world: Path, broken: Any, stage: str):
    broken(lambda text, seen: bool(seen), RENAMED)
    with pytest.raises(EmtError, match="crop_to_patches"):
        run(world, stage, encoder="vlm" if stage == "embed" else "fake")


@pytest.mark.parametrize("stage", ["embed", "score", "midtrain"])
def test_stages_stop_where_most_pictures_are_refused(world: Path, broken: Any, stage: str):
    """Plain pictures are taken, those of the sources are not."""
    encoder = "vlm" if stage == "embed" else "fake"
    if stage == "score":
        run(world, "measure", encoder)
    plain = plain_picture().size
    broken(lambda text, seen: any(image.size != plain for image in seen), ValueError("no grid"))
    with pytest.raises(EmtError, match=r"of the first \d+ samples .*no grid"):
        run(world, stage, encoder)


def test_a_question_whose_picture_is_refused_is_an_error_that_names_it(tmp_path: Path, broken: Any):
    picture(0, 300, 2).save(tmp_path / "thin.png")
    broken(lambda text, seen: any(min(image.size) < 4 for image in seen), ValueError("too thin"))
    answerer = Answerer(str(save_internvl(tmp_path / "vlm")), device="cpu")
    question = Question(
        id="q7",
        category="all",
        text="What?",
        answer="A",
        judge="choice",
        pictures=(Picture(root=tmp_path, name="thin.png"),),
    )
    with pytest.raises(EmtError, match="too thin") as caught:
        answerer.answers([question])
    assert caught.value.where == "question q7"
