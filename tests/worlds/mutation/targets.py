"""The formats under test, by name: a new one is a line here.

Each has one variant or more (variant.py): the clean files, the source that reads them, and how they
are damaged.
"""

from __future__ import annotations

from mutation.demonstrations import HDF5, RLDS
from mutation.json_targets import (
    as_array,
    as_lines,
    as_objects,
    images_variant,
    json_variant,
    meta_variant,
    sharegpt_variant,
    vcr_variant,
)
from mutation.robots import LEROBOT_V2, LEROBOT_V3
from mutation.table_targets import HF, PARQUET, STREAM, WEBDATASET
from mutation.variant import Variant

TARGETS: dict[str, tuple[Variant, ...]] = {
    "llava-array": (json_variant(as_array),),
    "llava-lines": (json_variant(as_lines),),
    "llava-objects": (json_variant(as_objects),),
    "internvl-meta": (meta_variant(),),
    "sharegpt": (sharegpt_variant(as_array, "json"), sharegpt_variant(as_lines, "jsonl")),
    "vcr": (vcr_variant(), vcr_variant(rationale=True), vcr_variant(boxes=False)),
    "hf": HF,
    "hf-stream": STREAM,
    "parquet": PARQUET,
    "webdataset": WEBDATASET,
    "lerobot-v2": LEROBOT_V2,
    "lerobot-v3": LEROBOT_V3,
    "hdf5": HDF5,
    "rlds": RLDS,
    "images": (images_variant(),),
}
