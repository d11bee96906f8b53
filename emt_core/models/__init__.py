"""Vision-language models: loading them, feeding them, encoders on top of them, a model's identity."""
