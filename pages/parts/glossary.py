"""Every term the app uses, explained once. Shown as tooltips; `§` is the section of the paper (arXiv 2604.20012)."""

from __future__ import annotations

SCALE = (
    "The logit spreads the ends out; the probability σ(logit) reads as a percentage but crowds near 0 and 1. "
    "Both rank alike."
)
LOWEST_SCORE = "Lowest score that the selection takes. Each measure has numbers of its own: compare within one only."
POOL = "Vision-language samples that may be selected for mid-training. (§ Data)"
ROBOT = "Frames of robot demonstrations with their instruction: the data to be near to. (§ Data)"
AUROC = (
    "Chance that a held-out robot frame scores above a held-out pool sample. 1 = always, 0.5 = coin flip. "
    "Robot episodes are held out whole, never frame by frame."
)
AP = "Average precision: area under the precision-recall curve on the held-out split."
ECE = (
    "Expected calibration error: how far the probabilities said lie from the shares observed, averaged over bins. "
    "0 is perfect."
)
STOP = (
    "Training ends once validation accuracy reaches the target (90 % in the paper, after 75-100 steps): stopping early "
    "keeps the scores graded instead of saturated. (§ Proximity estimator)"
)
THRESHOLD = (
    "Keep every sample whose score is at least this. The ends stand for everything further out: a few scores far from "
    "all others would take up the whole slider."
)
TOP_K = "Keep the K samples with the highest score. The paper keeps 1.2 M. (§ Proximity estimator)"
FRACTION = "Keep this share of the eligible pool."
DIVERSITY = (
    "S(D) = 1 / E[exp(−2‖u−v‖²)] over pairs of L2-normalised features (after Wang & Isola). Higher is more varied. "
    "In the paper: pool 1.85, robot data 1.26, selection 1.93. Worked out on a seeded subsample; below: change against "
    "the pool. (§ Diversity)"
)
MMD = (
    "Squared maximum mean discrepancy between the kept samples and the robot data (RBF kernel, median heuristic). "
    "0 = same distribution. Worked out on a seeded subsample; below: change against the pool. (§ Measuring the gap)"
)
EMBODIED = (
    "Share of samples that ask for spatial reasoning, for grounding (points, boxes), or about robots: "
    "categories spatial, grounding and robot, told from the conversation by rules. Below: change against the pool."
)
TEXT_HEAVY = "Categories text and chart: questions answered by reading. The paper finds them farthest from robot data. (§ Data)"
CATEGORY = "What a sample asks for, told from its conversation by rules: spatial, grounding, text, chart, caption, ..."
CAPS = (
    "At most this many samples of a source or category, filled best first. Leave empty for no cap."
)
BORDER = "The samples just inside and just outside the cut: if the two rows look alike, the cut is arbitrary here."
MAP = (
    "2-D projection of the encoder's features (UMAP unless the recipe says otherwise). Near means alike; distances "
    "between far groups mean little. (§ Measuring the gap)"
)
NEAREST = (
    "Robot frames with the smallest L2 distance to this sample in the encoder's feature space."
)
SUPERIORITY = (
    "Chance that a spatial or grounding sample scores above a text-heavy one. 50 % = no difference."
)
REJECTED = (
    "Rows that became no sample. Each has a named reason; open a source to read them, row by row."
)
TEXT_ONLY = "Samples without an image. They are kept in the index and never selected."
SOURCE_BYTES = "Files that were read; images that lie beside a table are not counted."
FRAMES = (
    "Frames taken from each episode for features and scores, evenly spaced from the first to the last "
    "(`frames_per_episode`); the player shows the whole episode."
)
ACTION = "What the robot was told to do at each frame: a row a dimension, scaled to the row, its range beside it."
PREFLIGHT = (
    "Reads the first rows with the same reader and checks as the sources stage, and writes nothing."
)

FLAGS = {
    "keep": "A sample to keep in mind, or one that has to stay.",
    "doubtful": "Not sure about this one: to look at again.",
    "wrong": "The answer, the image or the category is wrong.",
    "exclude": "To be left out of selections: Select offers to write these into the recipe.",
}
WORDS = (
    "Orders samples by how well CLIP finds their image to match these words: cosine between its text and image towers. "
    "The order means something only with trained CLIP weights."
)
LIKE = "Orders all samples by L2 distance to this one in the encoder's feature space."
TOKENS = (
    "Σ min(images × tokens an image + characters ÷ characters a token, sequence length), over every selected sample. "
    "Characters and images are counted exactly."
)
GPU_HOURS = "Tokens × passes ÷ (tokens a second and GPU) ÷ 3600, summed over all GPUs, for a throughput that you measured."
GAP = (
    "Squared maximum mean discrepancy between two sources, E[k(x,x')] − 2 E[k(x,y)] + E[k(y,y')], with a Gaussian "
    "kernel whose width is the median distance; from a seeded subsample of each source. 0 = same distribution. "
    "(§ Measuring the gap)"
)
GAP_NORMALIZED = (
    "Normalised divides by the largest value of the matrix, as the paper's figure does."
)
GAP_ORDER = "Clustered puts near sources side by side (average linkage); the recipe's order is that of all other pages."
GAP_GROUPS = (
    "Mean MMD² over pairs of sources: inside the pool, inside the robot data, and one of each."
)
DIVERSITY_SOURCES = (
    "S(D) = 1 / E[exp(−t‖u−v‖²)] over pairs of L2-normalised features of a seeded subsample; 1 = all alike. "
    "Diamonds: what the paper reports for its own data. (§ Diversity)"
)
NEAREST_PAIRS = "L2 distance in the encoder's own feature space: what the encoder finds alike, before any estimator."
TEST_ACCURACY = "Share told right at even odds on the test split: robots and pool weigh half each, robot sets alike."
GRADED = (
    "Share of held-out pool samples that score between 1 % and 99 %. Scores crowded at the ends rank by noise there. "
    "(§ Proximity estimator)"
)
HELD_OUT = "The test split: whole robot episodes and pool samples that neither training nor early stopping ever saw."
CONFUSION = "Each row is a class of the test split, each column what the sign of the score says; rows add up to 100 %."
GROUP_ORDER = (
    "Highest median first. In a violin the dot is the median and the bar the middle half; a histogram is as high as "
    "its row. Logarithmic heights show the few beside the many."
)
BEFORE_AFTER = (
    "Draws what the selection takes beside the whole: the lower, full half of a violin, the full part of a histogram. "
    "Robot sources are no candidates and are left out then."
)
SIDE_SELECTED = "Share of this side of the pool that the selection takes."

SUCCESS = (
    "Share of episodes solved, averaged over tasks (and then over seeds), at the reported checkpoint. An episode that "
    "the simulator spoiled counts as not solved. (§ Evaluation)"
)
WILSON = (
    "95 % score interval (Wilson 1927) of the share of solved episodes: where the success of this trained policy on "
    "further layouts would lie. It knows nothing of what another training run would give."
)
AVERAGE_LENGTH = (
    "CALVIN: instructions of a chain completed in a row, on average over chains. (§ Evaluation)"
)
LAYOUTS = (
    "Places of objects and goals are drawn from seeds that demonstrations never use, or are the benchmark's own. Every "
    "policy evaluated with the same seed meets the same ones."
)
FAULTS = "Episodes spoiled by a crash, a hang or an error of the simulator, or by an action that is not finite."
DYNAMICS = (
    "Success at intermediate checkpoints of fine-tuning. In the paper the mid-trained start is ahead from the first "
    "one and training losses do not tell the starts apart. Band: 95 % of all episodes. (§ Training dynamics)"
)
PAIRED = (
    "Each pair is one layout of one task, played by two policies with the same training seed. Only layouts where they "
    "come out differently carry information."
)
ROLLOUTS = "The frames that the policy saw, one a chunk of actions. The recipe's `videos` says how many are kept."

FAILURES = {
    "step_cap": "out of steps",
    "crashed": "simulator crashed",
    "hung": "simulator hung",
    "error": "simulator error",
    "bad_action": "action not finite",
}

PLANTED = (
    "Share of samples whose content is known to be near (planted truth): in the demo, samples that ask for pointing, "
    "spatial relations or robots; in your data, those you marked. Measured on the selected samples."
)

REASONS = {
    "": "selected",
    "robot": "robot data, not a candidate",
    "text_only": "has no image",
    "excluded": "excluded by hand",
    "source_cap": "its source's cap was full",
    "category_cap": "its category's cap was full",
    "quota": "its group's quota was full",
    "cluster_cap": "its cell of the feature space was full",
    "near_duplicate": "nearly the same as a better sample",
    "no_score": "the measure gives it no score",
    "below_cut": "below the cut",
    "not_drawn": "not drawn at random",
    "missing_image": "its image is missing",
    "undecodable_image": "its image cannot be decoded",
    "pixel_bomb": "its image is too large",
    "bad_path": "its image path leaves the source's folder",
    "non_finite_feature": "the encoder gave no finite feature",
}


def reason(name: str) -> str:
    return REASONS.get(name, name.replace("_", " "))


SMOOTHING = (
    "Exponential moving average: each point keeps this share of its past. 0 shows the raw values; the faint line "
    "behind is always raw."
)
LOSS = (
    "Cross-entropy of the answers' tokens (mid-training), or Huber loss of the arm plus weighted cross-entropy of the "
    "gripper (fine-tuning), averaged over the last steps. Loss does not tell starts apart: success does. (§ Fig. 3)"
)
CHECKPOINTS = (
    "Checkpoints are what an interrupted run goes on from; the last two are kept until it is finished. Policies are "
    "kept for evaluation at these steps; `model` is the mid-trained VLM."
)
RETAINED = "The same questions to the VLM before and after mid-training, answered greedily; 95 % Wilson intervals. (§ Table 7)"
