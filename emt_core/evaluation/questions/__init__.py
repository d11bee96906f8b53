"""Questions with known answers: what a VLM keeps through mid-training (Table 7 of the paper).

question    one question, its images and how its answer is judged
public      readers of the public suites' own files: POPE, BLINK, VisuLogic, 3DSRBench, SpatialEval
demo        held-out questions of the demo's generators
scoring     whether an answer is right
answering   greedy answers of a VLM, in batches
"""
