"""What Arrow raises for a file that is damaged."""

from __future__ import annotations

import pyarrow as pa

DAMAGED = (pa.ArrowException, OSError, ValueError, OverflowError)
"""Of reading a file or a value: no such format, cut off, a size that no memory has, text that is no
UTF-8, a day that Python's calendar lacks."""
