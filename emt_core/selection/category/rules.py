"""The category of a conversation by rules one can read: each verdict names the rule that gave it.

A user turn is judged by what it demands (GUIDE.md): rules are asked in a fixed order, the first
that answers decides. A conversation is judged by the majority of its user turns, on a tie by the
first one's category.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from emt_core.data.sample import Turn
from emt_core.selection.category import (
    agents,
    charts,
    coordinates,
    demands,
    languages,
    reading,
    relations,
)
from emt_core.selection.category.cue import Rules, any_of
from emt_core.selection.category.turn import Exchange, exchange

SHORT_PROMPT = 4  # words
MAX_TURNS = 40  # user turns looked at; a majority of 40 is settled


@dataclass(frozen=True, slots=True)
class Verdict:
    category: str
    rule: str


def classify(turns: Sequence[Turn], n_images: int) -> Verdict:
    """The category of a whole conversation about `n_images` images. Never raises on any text."""
    if n_images == 0:
        return Verdict("other", "no_image")
    verdicts: list[Verdict] = []
    context = Context()
    for question, answer in _exchanges(turns):
        turn = exchange(question, answer)
        if verdicts and _small_talk(turn):
            continue
        verdict = classify_turn(turn, context)
        context.note(turn, verdict)
        verdicts.append(verdict)
    if not verdicts:
        return Verdict("unsure", "no_user_turn")
    if len(verdicts) == 1:
        return verdicts[0]
    votes = Counter(v.category for v in verdicts)
    most = max(votes.values())
    tied = [name for name, count in votes.items() if count == most]
    # Counter keeps first-seen order, so a tie goes to the first turn's category where it is among
    # the tied.
    return next(v for v in verdicts if v.category == tied[0])


def _exchanges(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for turn in turns:
        if turn.role == "user":
            if len(pairs) == MAX_TURNS:
                break
            pairs.append((turn.text, ""))
        elif turn.role == "assistant" and pairs:
            question, said = pairs[-1]
            pairs[-1] = (question, said or turn.text)
    return pairs


_THANKS = re.compile(
    "^(?:thank|thanks|great|cool|nice|awesome|ok|okay|perfect|bye|goodbye|good|lovely|wow|merci|danke"
    r"|gracias)\b[^?]{0,40}$"
)


def _small_talk(turn: Exchange) -> bool:
    return not turn.stem or bool(_THANKS.match(turn.stem))


class Context:
    """What earlier turns established, for turns that do not say it again ("And the smallest?")."""

    def __init__(self) -> None:
        self.previous: Verdict | None = None
        self.chart = self.agent = False

    def note(self, turn: Exchange, verdict: Verdict) -> None:
        self.previous = verdict
        self.chart = (
            self.chart or verdict.category == "chart" or bool(charts.IN_ANSWER.search(turn.answer))
        )
        self.agent = self.agent or agents.AGENT_NAMED.first(turn) is not None


_UNSEEN = re.compile(
    r"\b(?:don't|do not|cannot|can't|can not|unable to) (?:actually )?(?:see|view|access|open|find|process|load"
    "|display) (?:an?y? |the |your |this )?(?:attached )?(?:image|picture|photo|attachment|file)"
    r"|\bno (?:image|picture|photo) (?:was |is |has been )?(?:attached|provided|included|uploaded|visible)"
    r"|\b(?:image|picture|photo) (?:is|was|seems|appears|could|did)\b.{0,30}\b(?:missing|blank|not (?:attached|load"
    r"|provided|included|visible|uploaded)|corrupt\w*|broken|too (?:dark|blurry|blurred))|\b(?:image|picture|photo)"
    r" (?:cannot|can\'t|could not) be (?:displayed|loaded|shown|seen|read|opened)|^unanswerable|^unsuitable"
    r"|\b(?:upload|attach|send) (?:it|the image|the picture|the photo|an image) again"
)
_UNSEEN_WORD = re.compile("image|picture|photo|attach|file|unanswerable|unsuitable|upload|send")
_ELLIPSIS = re.compile(
    r"^(?:and|what about|how about|or|but)\b.{0,60}$|^why(?: do you think so| so| is that)?\b.{0,40}\b(?:so|that"
    r"|rationale|reason)\b.{0,20}$|^(?:and )?(?:the|that|this) [\w ]{1,30}\?$|^(?:give|provide) (?:the|a) rationale"
)
_COLOR_OF_IT = re.compile(r"\bcolou?r|how many|\bdoing|\bwearing|\bholding|\bmade of\b|\bwhy\b")
_QUESTION = re.compile(
    r"\?|^(?:what|who|whom|whose|which|where|when|why|how|is|are|was|were|do|does|did|can|could|will|would|should"
    "|may|might|has|have|had|name|tell|count|explain|identify|list|give|guess|choose|select|pick|answer|suggest"
    r"|compare|find|describe|q)\b"
)


def classify_turn(turn: Exchange, context: Context) -> Verdict:
    """One user turn with its answer, in the light of the turns before it."""
    for step in _STEPS:
        verdict = step(turn, context)
        if verdict is not None:
            return verdict
    return Verdict("unsure", "no_evidence")


def _found(rules: Rules, turn: Exchange) -> Verdict | None:
    rule = rules.first(turn)
    return Verdict(rule.category, rule.name) if rule else None


def _cannot_be_answered(turn: Exchange, _: Context) -> Verdict | None:
    if _UNSEEN_WORD.search(turn.answer) and _UNSEEN.search(turn.answer):
        return Verdict("other", "image_unseen")
    return _found(demands.OTHER, turn)


def _bare_image(turn: Exchange, _: Context) -> Verdict | None:
    if not turn.words and not turn.choices:
        return Verdict(
            "grounding" if coordinates.answers_in_coordinates(turn.answer) else "caption",
            "bare_image",
        )
    return None


def _action_numbers(turn: Exchange, _: Context) -> Verdict | None:
    """Action vectors and paths of the gripper are motions that happen to be written in numbers."""
    if not coordinates.places(turn.answer) or not agents.ARM.search(turn.stem):
        return None
    if coordinates.action_vector(turn.answer):
        return Verdict("robot", "robot_action_vector")
    if agents.MOTION.search(turn.stem) and coordinates.places(turn.answer) > 1:
        return Verdict("robot", "robot_path")
    return None


_PLACE_WORD = any_of(
    (
        "box|bbox|boxes|points? (?:to|on|at)|coordinates?|locate|click|region|where|detect|pixel|segment",
    )
)


def _values_demanded(turn: Exchange) -> bool:
    """A list of a chart's values looks like coordinates."""
    return charts.NOUN.first(turn) is not None and not _PLACE_WORD.search(turn.stem)


def _place_demanded(turn: Exchange, _: Context) -> Verdict | None:
    placed = coordinates.answers_in_coordinates(turn.answer)
    if (
        placed
        and coordinates.places(turn.stem) > 1
        and turn.answer.strip(" .") in turn.stem
        and relations.asked(turn)
    ):
        return None  # "Which is deeper, (0.2, 0.3) or (0.8, 0.5)?" names its choices by place
    if placed and not _values_demanded(turn):
        return Verdict("grounding", "answer_is_place")
    if turn.wants_tuples:
        return Verdict("grounding", "ground_tuples")
    verdict = _found(demands.POINTING, turn)
    return None if verdict and _values_demanded(turn) else verdict


# "What is inside the red box?" asks for the region, not for a relation to a box.
_HELD_BY_REGION = re.compile(
    r"\b(?:inside|within|at|in|on)(?: of)? (?:the |this )?(?:region |area |box |rectangle |point |location )?"
    rf"(?:{demands.MARK.pattern}|{coordinates.TUPLE.pattern})"
)


def _region_given(turn: Exchange, _: Context) -> Verdict | None:
    given = coordinates.places(turn.stem)
    if not given and demands.MARKED.first(turn) is None:
        return None
    if rule := relations.asked(replace(turn, stem=_HELD_BY_REGION.sub(" ", turn.stem))):
        return Verdict("spatial", rule)
    if not given and turn.choices:
        return None
    asked = turn.stem.startswith(demands.REGION_TAG) or demands.REGION_ASKED.search(turn.stem)
    if asked and not demands.REGION_NOT_ASKED.search(turn.stem):
        return Verdict("grounding", "region_asked")
    return None


def _robot(turn: Exchange, _: Context) -> Verdict | None:
    if agents.ABOUT_DATA.search(turn.stem):
        return None
    return _found(agents.AGENT, turn)


def _chart(turn: Exchange, _: Context) -> Verdict | None:
    return _found(charts.NOUN, turn) or _found(charts.DATA, turn)


def _caption_ordered(turn: Exchange, _: Context) -> Verdict | None:
    return _found(demands.CAPTION_ORDERED, turn)


def _text(turn: Exchange, _: Context) -> Verdict | None:
    verdict = _found(reading.TEXT, turn)
    if verdict is None and turn.ocr and not _found(demands.CAPTION, turn):
        return Verdict(
            "text", "ocr_tokens_given"
        )  # LLaVA gives them along with TextVQA's questions
    return verdict


def _caption(turn: Exchange, _: Context) -> Verdict | None:
    return _found(demands.CAPTION, turn)


def _agent_acts(turn: Exchange, context: Context) -> Verdict | None:
    """An agent is named, nothing else was demanded, and the question is about what it does."""
    named = agents.AGENT_NAMED.first(turn)
    if not named and not (context.agent and agents.OF_IT.search(turn.stem)):
        return None
    if agents.AGENT_ACTS.search(turn.stem) and not agents.NOT_ACTING.search(turn.stem):
        return Verdict("robot", "robot_acts" if named else "robot_context")
    return None


def _spatial(turn: Exchange, _: Context) -> Verdict | None:
    if not relations.where(turn):
        rule = relations.asked(turn)
    elif relations.answered(turn.answer):
        rule = "where_relation"
    else:
        rule = relations.measured(turn)  # "... nearest to where you stand?"
    return Verdict("spatial", rule) if rule else None


def _other_language(turn: Exchange, _: Context) -> Verdict | None:
    if languages.foreign(turn.stem):
        category = languages.classify(turn.stem, turn.answer)
        if category:
            return Verdict(category, f"{category}_other_language")
        return Verdict("vqa", "vqa_other_language")
    return None


def _follow_up(turn: Exchange, context: Context) -> Verdict | None:
    if (
        context.previous is not None
        and _ELLIPSIS.match(turn.stem)
        and not _COLOR_OF_IT.search(turn.stem)
    ):
        return Verdict(context.previous.category, "follow_up")
    return None


def _by_answer(turn: Exchange, context: Context) -> Verdict | None:
    if reading.ANSWER_READS.search(turn.answer) and not _COLOR_OF_IT.search(turn.stem):
        return Verdict("text", "answer_is_read")
    if context.chart and not _COLOR_OF_IT.search(turn.stem):
        return Verdict("chart", "chart_context")
    return None


def _general(turn: Exchange, _: Context) -> Verdict | None:
    if turn.choices or _QUESTION.search(turn.stem):
        return Verdict("vqa", "question")
    if len(turn.words) <= SHORT_PROMPT and len(turn.answer.split()) >= SHORT_PROMPT:
        return Verdict(
            "caption", "short_prompt"
        )  # "an image of", "look at this!": alt text follows
    return Verdict("vqa", "instruction") if len(turn.words) > SHORT_PROMPT else None


_STEPS = (
    _bare_image,
    _cannot_be_answered,
    _action_numbers,
    _place_demanded,
    _robot,
    _region_given,
    _chart,
    _caption_ordered,
    _text,
    _caption,
    _spatial,
    _agent_acts,
    _other_language,
    _follow_up,
    _by_answer,
    _general,
)
