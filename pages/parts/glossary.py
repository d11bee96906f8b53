"""Tooltips: every term of the app, explained once. § names a section of arXiv 2604.20012."""

from __future__ import annotations

SETS = {
    "selected": "Selected",
    "left": "Rejected",
    "near": "Near the cut",
    "pool": "Whole pool",
    "robot": "Robot data",
}
"""Sets of samples on Browse; the address has the label."""

SCALE = (
    "Logits spread the extremes out; probabilities σ(logit) are easier to read but crowd near 0 "
    "and 1. Both give the same ranking."
)
LOWEST_SCORE = "Lowest score in the selection. Scores of different measures are not comparable."
POOL = "Vision-language samples that can be selected for mid-training. (§ Data)"
ROBOT = "Frames of robot demonstrations with their instruction: the target data. (§ Data)"
AUROC = (
    "Chance that a held-out robot frame scores above a held-out pool sample: 1 = always, 0.5 = "
    "random. Whole robot episodes are held out."
)
AP = "Average precision: area under the precision-recall curve on the held-out split."
ECE = (
    "Expected calibration error: difference between predicted probability and observed share, "
    "averaged over bins. 0 is perfect."
)
STOP = (
    "Training stops once validation accuracy reaches the target (90 % in the paper, after 75-100 "
    "steps) and the seeds agree on the ranking: early stopping keeps scores graded instead of "
    "saturated. (§ Proximity estimator)"
)
SPREAD = (
    "Standard deviation of the score over the estimator's seeds, trained on different batches: how "
    "much of a score is chance."
)
THRESHOLD = (
    "Keep samples with at least this score. The ends of the slider include everything further out."
)
TOP_K = "Keep the K samples with the highest score. The paper keeps 1.2 M. (§ Proximity estimator)"
FRACTION = (
    "Share of the pool samples that may be selected: with an image, a feature and a score, and "
    "excluded by nobody."
)
DIVERSITY = (
    "S(D) = 1 / E[exp(−2‖u−v‖²)] over pairs of L2-normalized features (after Wang & Isola). Higher "
    "is more varied. In the paper: pool 1.85, robot data 1.26, selection 1.93. Pairs of a sample "
    "with itself are left out. Sets of more than 2,000 are measured on a seeded sample; ± is its "
    "standard error. Below: change against the pool. (§ Diversity)"
)
MMD = (
    "Squared maximum mean discrepancy between the selected samples and the robot data, the robot "
    "sets in equal parts: unbiased, Gaussian kernel, its width the median distance over all "
    "sources alike. 0 = same distribution. Sets of more than 2,000 are measured on a seeded "
    "sample; ± is its standard error. Below: change against the pool. (§ Measuring the gap)"
)
EMBODIED = (
    "Share of samples in the categories spatial, grounding (points, boxes) and robot, assigned by "
    "the words of the conversation. Below: change against the pool."
)
TEXT_HEAVY = (
    "Categories text and chart: questions answered by reading. In the paper they are farthest from "
    "robot data. (§ Data)"
)
CATEGORY = (
    "What a sample asks for, by the words of its conversation: spatial, grounding, text, chart, "
    "caption, ..."
)
CAPS = "At most this many samples of a source or category, best first. Empty: no cap."
BORDER = "If the two rows look alike, the cut is arbitrary here."
MAP = (
    "2-D projection of the encoder's features (UMAP unless the recipe says otherwise). Near points "
    "are similar; distances between far groups mean little. (§ Measuring the gap)"
)
NEAREST = (
    "Robot frames with the smallest L2 distance to this sample in the encoder's feature space."
)
SUPERIORITY = (
    "Chance that a spatial or grounding sample scores above a text-heavy one. 50 % = no difference."
)
REJECTED = "Rows that could not be used, each with a reason; open a source to see them."
TEXT_ONLY = "Samples without an image. They are never selected."
SOURCE_BYTES = "Files that were read, without images stored next to a table."
FRAMES = (
    "Features and scores use evenly spaced frames of each episode (`frames_per_episode`); the "
    "player shows the whole episode."
)
ANNOTATIONS = (
    "What the data set says of the episode beside its instruction: subtasks and plans hold from "
    "their frame on, questions and speech are of their frame alone."
)
ACTION = "The action at each frame: one row per dimension, with its range."
PREFLIGHT = "Reads the first rows as the sources stage would; writes nothing."

FLAGS = {
    "keep": "A good example, or one that must stay.",
    "doubtful": "To look at again.",
    "wrong": "The answer, the image or the category is wrong.",
    "exclude": "Select can exclude these samples from a selection.",
}
WORDS = (
    "Sorts samples by the CLIP similarity of their image and these words. Meaningful only with "
    "trained CLIP weights."
)
LIKE = "Sorts all samples by L2 distance to this one in the encoder's feature space."
TOKENS = (
    "Σ min(images × tokens per image + characters ÷ characters per token, sequence length) over "
    "the selected samples. Characters and images are counted exactly."
)
GPU_HOURS = "Tokens × passes ÷ (tokens/s per GPU) ÷ 3600, with the throughput you entered."
GAP = (
    "Squared maximum mean discrepancy between two sources, E[k(x,x')] − 2 E[k(x,y)] + E[k(y,y')], "
    "unbiased, with a Gaussian kernel whose width is the median distance over all sources alike. 0 "
    "= same distribution. ± is the standard error of a seeded subsample. Robot data as a whole: "
    "the robot sets in equal parts. (§ Measuring the gap)"
)
GAP_NORMALIZED = "Normalized: divided by the largest value of the matrix, as in the paper's figure."
GAP_ORDER = "Clustered: near sources side by side (average linkage)."
GAP_GROUPS = "Mean MMD² over pairs of sources: both pool, both robot data, or one of each."
DIVERSITY_SOURCES = (
    "S(D) = 1 / E[exp(−2‖u−v‖²)] over pairs of L2-normalized features; 1 = all alike. ± is the "
    "standard error of a seeded subsample. Diamonds: the paper's values for its own data. "
    "(§ Diversity)"
)
NEAREST_PAIRS = "By L2 distance in the encoder's feature space, without the estimator."
TEST_ACCURACY = (
    "Share of correct predictions at threshold 0 on the test split; robot data and pool weigh half "
    "each, robot sets equally."
)
GRADED = (
    "Share of held-out pool samples with a probability between 1 % and 99 %. Saturated scores rank "
    "by noise. (§ Proximity estimator)"
)
HELD_OUT = "The test split: whole robot episodes and pool samples that training never saw."
CONFUSION = "Rows: true class in the test split. Columns: predicted class. Rows sum to 100 %."
GROUP_ORDER = (
    "Highest median first. Violins: the dot is the median, the bar the middle half. Logarithmic "
    "heights make small groups visible."
)
BEFORE_AFTER = (
    "Also draws the selection: the lower, full half of a violin, the full part of a histogram. "
    "Robot sources, which cannot be selected, are hidden then."
)
SHARE_SELECTED = (
    "A share of those samples here that may be selected: pool samples with an image, a feature and "
    "a score that nobody excluded."
)

SUCCESS = (
    "Share of solved episodes, averaged over tasks (and then over seeds), at the reported "
    "checkpoint. Episodes with simulator faults count neither way. (§ Evaluation)"
)
WILSON = (
    "95 % score interval (Wilson 1927) of the share of solved episodes: the expected success of "
    "this trained policy on further layouts. Variation between training runs is not included."
)
AVERAGE_LENGTH = "CALVIN: instructions completed in a row, averaged over chains. (§ Evaluation)"
LAYOUTS = (
    "Layouts (places of objects and goals) come from seeds that demonstrations never use, or from "
    "the benchmark. Policies evaluated with the same seed get the same layouts."
)
FAULTS = (
    "Episodes that a simulator's crash, hang or error ended, also when they were tried once more. "
    "They are in no success rate; a task of which all episodes end so has none."
)
STILL = "Action dimensions with one value in all data, of which nothing is learned: {names}."
DYNAMICS = (
    "Success at intermediate checkpoints of fine-tuning. In the paper the mid-trained start leads "
    "from the first one, while training losses look the same. Band: 95 % interval. "
    "(§ Training dynamics)"
)
PAIRED = (
    "Each pair is one layout of one task, run by two policies with the same training seed. Only "
    "layouts with different outcomes carry information."
)
ROLLOUTS = "The frames that the policy saw, one per action chunk. Kept: `videos` in the recipe."

FAILURES = {
    "step_cap": "out of steps",
    "crashed": "simulator crashed",
    "hung": "simulator hung",
    "error": "simulator error",
    "bad_action": "action not finite",
}

PLANTED = (
    "Share of the selected samples whose content is known to be relevant (planted truth): in the "
    "demo, samples about pointing, spatial relations or robots; in your data, those you marked."
)

REASONS = {
    "": "selected",
    "robot": "robot data",
    "text_only": "has no image",
    "excluded": "excluded by hand",
    "source_cap": "its source's cap was full",
    "category_cap": "its category's cap was full",
    "quota": "its group's quota was full",
    "cluster_cap": "its cell of the feature space was full",
    "near_duplicate": "nearly the same as a better sample",
    "no_score": "no score",
    "below_cut": "below the cut",
    "not_drawn": "not drawn at random",
    "missing_image": "its image is missing",
    "undecodable_image": "its image cannot be decoded",
    "pixel_bomb": "its image is too large",
    "bad_path": "its image path leaves the source's folder",
    "empty_text": "it has neither an image nor words of the user",
    "non_finite_feature": "the encoder gave no finite feature",
}


def reason(name: str) -> str:
    return REASONS.get(name, name.replace("_", " "))


SMOOTHING = (
    "Exponential moving average with this weight of the past; 0 shows the raw values. The faint "
    "line is always raw."
)
LOSS = (
    "Cross-entropy of the answer tokens (mid-training), or Huber loss of the arm plus weighted "
    "cross-entropy of the gripper (fine-tuning), averaged over the last steps. Compare policies by "
    "success, not by loss. (§ Fig. 3)"
)
CHECKPOINTS = (
    "Interrupted runs resume from checkpoints; the last two are kept until the run is finished. "
    "Policies are kept for evaluation; `model` is the mid-trained VLM."
)
RETAINED = (
    "The same questions before and after mid-training, greedy decoding, 95 % Wilson intervals. "
    "(§ Table 7)"
)
PROBES = (
    "A probe is a small model that reads an answer from the frozen features of a robot frame. R² "
    "is the share of the spread that it explains (1: all, 0: no better than the mean). It is "
    "tested on episodes that it never learned from; other tasks: sets that it never saw at all."
)
PROBE_ADVICE = (
    "From the linear probe of the next actions, which a policy's head has to read as well: better "
    "or worse where the 95 % interval of the change leaves out 0."
)
DRIFT = (
    "Both models see the same samples. Likeness is linear CKA of what a layer makes of them: 1 "
    "means that mid-training moved nothing there. Moving is no damage by itself: the probes tell."
)
AGREEMENT = (
    "Spearman's rank correlation over models that were both probed and rolled out in this "
    "workspace; the interval is a bootstrap over models."
)
