"""Does the score mean what it seems to mean? One file a question; the `trust` stage asks them all.

Each question gives a section: {"title", "question", "numbers", ...}; a number is made by
`numbered`, so that it never stands without what is good and what to do when it is not.
"""
