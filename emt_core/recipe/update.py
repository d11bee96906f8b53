"""What a recipe says about which weights of a VLM a training updates."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from emt_core.recipe.base import Attention, StageConfig

Part = Literal["vision", "projector", "language"]

STATE_BYTES = {"adamw": 8, "adamw_8bit": 2}
"""Of the optimizer's two moments, a trained parameter."""


class UpdateConfig(StageConfig):
    """Base of the settings of a stage that trains a VLM."""

    TRAINS_A_HEAD: ClassVar[bool] = False
    """Whether something beside the VLM is trained, so that all of the VLM may be frozen."""

    update: Literal["full", "lora", "partial"] = "full"
    """Which weights are trained. `full`: all (the paper). `lora`: low-rank additions to the
    language model, the last vision blocks and the projector (arXiv 2605.25802; needs peft).
    `partial`: the last blocks of the vision encoder and of the language model, and the projector.
    The result is a plain VLM in each case."""

    lora_rank: int = Field(default=0, ge=0)
    """update lora: rank of the additions. 0: 16 (2605.25802)."""

    lora_alpha: float = Field(default=0.0, ge=0)
    """update lora: the additions count alpha / rank times. 0: twice the rank (2605.25802: 32)."""

    vision_share: float | None = Field(default=None, ge=0, le=1)
    """update lora, partial: this share of the vision encoder's blocks, the last ones, is trained
    as it is; rounded up. None: 0.25 with lora (2605.25802), none with partial."""

    language_share: float | None = Field(default=None, ge=0, le=1)
    """update partial: the same of the language model's blocks."""

    freeze: tuple[Part, ...] = ()
    """Parts that are not trained. Paper: none. update lora, partial: only `projector`; shares of 0
    leave the others as they are."""

    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit`: optimiser states in 8 bits (needs bitsandbytes and CUDA)."""

    attn_implementation: Attention = "auto"
    """The attention kernel, by transformers' name. `auto`: the model's own choice, `sdpa` for those
    that have it. `flash_attention_2` needs flash_attn, a GPU and bfloat16. All agree to
    rounding."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic; weights stay float32. auto: bfloat16 on a GPU that has it, in midtrain also on a
    CPU that has it for models of 100 million parameters or more, else float32."""

    @model_validator(mode="before")
    @classmethod
    def _with_lora_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("update") != "lora":
            return given
        rank = given.get("lora_rank") or 16
        twice = 2 * rank if isinstance(rank, int) else 0
        share = given.get("vision_share")
        return given | {
            "lora_rank": rank,
            "lora_alpha": given.get("lora_alpha") or twice,
            "vision_share": 0.25 if share is None else share,
        }

    @model_validator(mode="after")
    def _consistent_update(self) -> UpdateConfig:
        if self.update != "lora" and (self.lora_rank or self.lora_alpha):
            raise ValueError("lora_rank and lora_alpha go with `update: lora`")
        if self.update == "full" and (self.vision_share or self.language_share):
            raise ValueError("vision_share and language_share go with `update: lora` or `partial`")
        if self.update == "lora" and self.language_share:
            raise ValueError("LoRA reaches every block of the language model: no language_share")
        if self.update == "partial" and not (self.vision_share or self.language_share):
            raise ValueError("update partial needs a vision_share or a language_share above 0")
        if self.update != "full" and set(self.freeze) - {"projector"}:
            raise ValueError(
                f"update {self.update} freezes blocks by shares: `freeze` can name the projector"
            )
        if not self.trained_parts and not self.TRAINS_A_HEAD:
            raise ValueError(
                "vision, projector and language are all frozen: nothing is left to train"
            )
        return self

    @model_validator(mode="after")
    def _consistent_arithmetic(self) -> UpdateConfig:
        if self.attn_implementation == "flash_attention_2" and self.precision == "float32":
            raise ValueError("flash_attention_2 needs bfloat16: `precision` cannot be float32")
        return self

    @property
    def trained_parts(self) -> set[Part]:
        """Parts of which at least some weights are trained."""
        trained: set[Part] = {"vision", "projector", "language"}
        trained -= set(self.freeze)
        if self.update != "full" and not self.vision_share:
            trained.discard("vision")
        if self.update == "partial" and not self.language_share:
            trained.discard("language")
        return trained
