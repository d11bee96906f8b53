"""EmbodiedMidtrain (arXiv 2604.20012): vision-language data that lie near to robot data.

A file in a room imports only from its own room and from rooms below it (docs/architecture.md).

cli/          the command `emt`: one verb, one file
stages/       one stage, one file: inputs, one call, outputs; flow.py says who feeds whom
explore/      what people look at: tables, figures, the report, flags and notes; it only reads
selection/    which samples are in and why the others are out: categories, limits, exports
proximity/    how near a sample is to robot data: estimator, other measures, trust, the map
training/     mid-training of the VLM, fine-tuning of the policy
evaluation/   a policy in closed loop: benchmarks, simulators, recording, comparison of arms
models/       vision-language models and encoders: loading, feeding, identity
data/         samples on disk: readers, the index, images, robot episodes
run/          from a recipe to artifacts: plan, runner, jobs, status
recipe/       what a recipe may say: one file a part, checked and explained
workspace/    what lies on disk: artifacts, tables, locks, progress
flow.py       the stages in order: the product on one screen
errors.py     the one error that a user sees
"""

__version__ = "0.1.0"
