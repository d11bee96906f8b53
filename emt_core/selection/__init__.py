"""Who is in and who is out, as functions of arrays: shared by the select stage and the Select page.

`decide` takes one row of facts a sample (Candidates) and a SelectConfig and gives every row its
reason (Decision); `Preview` answers "what if the cut were here" in milliseconds. Nothing here reads
or writes a file.
"""

from emt_core.selection.candidates import Candidates
from emt_core.selection.decide import Decision, decide
from emt_core.selection.preview import Composition, Preview

__all__ = ["Candidates", "Composition", "Decision", "Preview", "decide"]
