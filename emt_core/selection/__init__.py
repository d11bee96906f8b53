"""Who is in and who is out, as functions of arrays: for the select stage and the Select page alike.

`decide` takes what is known of each sample (Candidates) and a SelectConfig, and gives every row its
reason (Decision). `Preview` answers "what if the cut were here" in milliseconds. Nothing here
writes a file, but for the exporters.
"""

from emt_core.selection.candidates import Candidates
from emt_core.selection.decide import Decision, decide
from emt_core.selection.preview import Composition, Preview

__all__ = ["Candidates", "Composition", "Decision", "Preview", "decide"]
