"""The training budget of a cut: tokens per pass, and GPU-hours at the user's own throughput."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
import yaml

from emt_core.explore import numbers
from emt_core.explore.tables.budget import (
    RULE_OF_THUMB,
    SEQUENCE_LENGTH,
    TokenBudget,
    TokenCosts,
    Tokenizer,
    costs_of_backbone,
    gpu_hours,
)
from emt_core.selection import Composition, Preview
from emt_core.workspace.artifact import Artifact
from pages.parts import cached, glossary
from pages.parts.view import View


def budget(view: View, preview: Preview, scope: str, made: Composition) -> None:
    """scope: identifies the preview in the cache of its running sums."""
    box = st.expander(
        "Training budget: tokens and GPU-hours",
        icon=":material/payments:",
        on_change="rerun",
        key="budget",
    )
    if not box.open:  # a closed box draws nothing: each slider would pay for it
        return
    with box:
        known = _known(view)
        costs, passes, rate = _settings(known)
        tokens_at, hours_at, text_at = st.columns(
            [2, 2, 5], gap="medium", vertical_alignment="center"
        )
        if costs is None:
            text_at.caption("Enter the tokens per image of your backbone.")
            tokens = None
        else:
            sums = _sums(view.chain.sources, scope, costs, _preview=preview)
            tokens = sums.tokens(made)
            text_at.caption(_basis(known, costs))
        tokens_at.metric("Tokens per pass", numbers.short(tokens), help=glossary.TOKENS)
        hours = gpu_hours(tokens, passes, rate) if tokens is not None and rate else None
        shown = numbers.decimal(hours, 2) if hours and hours < 10 else numbers.short(hours)
        hours_at.metric("GPU-hours", shown, help=glossary.GPU_HOURS)


def _settings(known: Tokenizer) -> tuple[TokenCosts | None, float, float | None]:
    columns = st.columns(5, gap="medium", vertical_alignment="bottom")
    ratio = columns[0].number_input(
        "Characters per token",
        0.5,
        20.0,
        round(known.characters_per_token or RULE_OF_THUMB, 2),
        step=0.1,
        key="cpt",
        persist_state="page",
    )
    image = columns[1].number_input(
        "Tokens per image", 0, 100_000, known.image_tokens, key="image_tokens", persist_state="page"
    )
    length = columns[2].number_input(
        "Sequence length",
        1,
        1_000_000,
        SEQUENCE_LENGTH,
        key="sequence_length",
        persist_state="page",
        help="Longer samples are truncated.",
    )
    passes = columns[3].number_input(
        "Passes",
        0.01,
        1000.0,
        1.0,
        key="passes",
        persist_state="page",
        help="Epochs over the selection.",
    )
    rate = columns[4].number_input(
        "Tokens/s per GPU",
        1.0,
        1e9,
        None,
        key="tokens_per_second",
        persist_state="page",
        placeholder="yours",
        help="Training throughput of one GPU, as you measured it.",
    )
    if image is None:
        return None, passes, rate
    costs = TokenCosts(
        characters_per_token=ratio, image_tokens=int(image), sequence_length=int(length)
    )
    return costs, passes, rate


def _basis(known: Tokenizer, costs: TokenCosts) -> str:
    measured = known.characters_per_token
    if measured and abs(costs.characters_per_token - measured) < 0.006:
        how = f"measured with the backbone's tokenizer on {known.sampled} conversations (seeded)"
    elif costs.characters_per_token == RULE_OF_THUMB:
        how = "a rule of thumb for English; the backbone is not on this machine"
    else:
        how = "as entered"
    words = f"Characters per token: {how}."
    if known.image_tokens and costs.image_tokens == known.image_tokens:
        words += " Tokens per image: from the backbone's configuration."
    return words


def _known(view: View) -> Tokenizer:
    path = view.recipe_file
    folder = ""
    if path is not None and path.exists():
        folder = _backbone_folder(str(path), path.stat().st_mtime)
    return _measured(folder, view.chain.sources)


@st.cache_data(max_entries=8, show_spinner=False)
def _backbone_folder(recipe: str, changed: float) -> str:
    raw = yaml.safe_load(Path(recipe).read_text(encoding="utf-8"))
    folder = Path(str(raw.get("base") or ".")) / str(raw.get("backbone") or "-")
    return str(folder) if folder.is_dir() else ""


@cached.shared(max_entries=4, show_spinner="Counting tokens of a sample")
def _measured(folder: str, sources: Artifact) -> Tokenizer:
    if not folder:
        return Tokenizer(characters_per_token=None, sampled=0, image_tokens=None)
    return costs_of_backbone(Path(folder), cached.index(sources))


@cached.shared(max_entries=2)
def _sums(sources: Artifact, scope: str, costs: TokenCosts, *, _preview: Preview) -> TokenBudget:
    characters = cached.index_column(sources, "text_chars")
    images = cached.index_column(sources, "n_images")
    return TokenBudget(_preview, characters, images, costs)
