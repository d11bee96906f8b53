"""Questions with known answers: what a VLM keeps through mid-training (Table 7 of the paper).

question    one question, its images and how its answer is judged
suites      readers of question files: POPE, BLINK, VisuLogic, 3DSRBench, SpatialEval, and our own
scoring     whether an answer is right
answering   greedy answers of a VLM, in batches
retention   the answers of two models beside each other: resumable lists, tables, rates
"""
