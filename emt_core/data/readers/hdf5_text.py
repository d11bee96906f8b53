"""What an HDF5 file of demonstrations says in words: the instruction, attributes that hold JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from emt_core.data.images.hdf5 import HDF5File, HDF5Problem
from emt_core.data.readers.conversation import encodable

NAMES_OF_TEXT = ("language_instruction", "language_raw", "instruction", "task")
"""Attributes and datasets of an ACT file that hold its instruction, as variants call them."""

SCENE = re.compile(r"^[A-Z_]+SCENE[0-9]+_")


def instruction_of(file: HDF5File, name: str, group: str) -> str:
    """The instruction of an episode, "" where the file has none.

    robocasa's attribute ep_meta of a demo; LIBERO's attribute problem_info of `data`, else its
    file's name; an attribute or dataset of an ACT file.
    """
    found = [json_attribute(file, group, "ep_meta").get("lang")]
    problem = json_attribute(file, "data", "problem_info").get("language_instruction")
    found.append("".join(map(str, problem)) if isinstance(problem, list) else problem)
    if group:
        found.append(_text_in_name(Path(name).stem))
    else:
        found += [_text_at(file, one) for one in NAMES_OF_TEXT]
    texts = (text.strip().strip('"').strip() for text in found if isinstance(text, str))
    return next((encodable(text) for text in texts if text), "")


def _text_in_name(stem: str) -> str:
    """`KITCHEN_SCENE3_turn_on_the_stove_demo` -> `turn on the stove`; "" for other names."""
    if not stem.endswith("_demo"):
        return ""
    return SCENE.sub("", stem.removesuffix("_demo")).replace("_", " ")


def _text_at(file: HDF5File, name: str) -> str:
    """The text of an attribute of the file, or of a dataset that holds one text."""
    value = _attribute(file, "", name)
    if value is None:
        try:
            found = file.dataset(name)
            if found.size != 1 or found.dtype.itemsize > 2**20:
                return ""
            value = np.asarray(found[()]).reshape(-1)[0]
        except (HDF5Problem, OSError, ValueError, TypeError):
            return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _attribute(file: HDF5File, group: str, name: str) -> Any:
    """None where there is none, or it cannot be read."""
    try:
        found = file.get(group)
        return found.attrs.get(name) if found is not None else None
    except (HDF5Problem, OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None


def json_attribute(file: HDF5File, group: str, name: str) -> dict[str, Any]:
    """An attribute that holds a JSON object; {} where it holds none."""
    value = _attribute(file, group, name)
    try:
        found = json.loads(value) if isinstance(value, str | bytes) else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
