"""The settings of fine-tuning."""

from emt_core.recipe.finetune import FinetuneConfig
from emt_core.training.schedule import warmup_steps


def test_the_paper_is_the_default():
    config = FinetuneConfig()
    assert (config.steps, config.batch, config.learning_rate) == (16_000, 256, 5e-5)
    assert warmup_steps(config.steps, config.warmup_ratio, config.warmup_steps) == 500
    assert (config.chunk, config.image_size, config.gripper_weight) == (10, 224, 0.01)
    assert config.uses() == ("midtrain", "demos") and config.kept_steps == (16_000,)
