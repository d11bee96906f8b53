"""One H.264 file that grows frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from emt_core.errors import EmtError


class VideoFile:
    """Encodes frames as they come: the same frames give the same bytes.

    Hence one thread and one quantizer for all blocks of a frame. With x264's `crf` each block's
    quantizer follows from its look-ahead, and that of the last block differed between two runs of
    one recipe in about one of twenty (docs/reliability.md).
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: int,
        size: tuple[int, int],
        quantizer: int,
        keyframe_interval: int = 20,
    ) -> None:
        """size: (height, width), both even (4:2:0). quantizer: of H.264, 0 to 51, lower is better
        (of P frames; key frames get about 3 less). keyframe_interval: frames; bounds a seek's
        work."""
        import av

        height, width = size
        if height % 2 or width % 2:
            raise EmtError(f"H.264 needs even sizes, not {height} x {width}", where=path)
        self.frames = 0
        self._bytes = 0
        self._whole = True
        # Not the stream's own time base: the muxer changes that one once the header is written.
        self._tick = Fraction(1, fps)
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=fps)
        self._stream.width = width
        self._stream.height = height
        self._stream.pix_fmt = "yuv420p"
        # No B-frames: decoding order is display order, and no edit list shifts the first timestamp
        # away from zero.
        self._stream.options = {
            "qp": str(quantizer),
            "preset": "veryslow",
            "g": str(keyframe_interval),
            "bf": "0",
            "threads": "1",
        }

    def add(self, frame: np.ndarray, *, keyframe: bool = False) -> None:
        """frame: (height, width, 3) uint8 RGB. keyframe: force one here."""
        import av
        from av.video.frame import PictureType

        if self._container is None:
            raise RuntimeError("the video is closed")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self.frames
        picture.time_base = self._tick
        if keyframe:
            picture.pict_type = PictureType.I
        packets = self._stream.encode(picture)
        self._bytes += sum(packet.size for packet in packets)
        self._whole = False
        self._container.mux(packets)
        self._whole = True
        self.frames += 1

    def megabytes(self) -> float:
        """Encoded so far, in MiB, without the frames (at most 60) that the encoder looks ahead
        over."""
        return self._bytes / 2**20

    def close(self) -> None:
        """Flush the encoder and write the index. Idempotent.

        After a write that failed (a full disk), nothing is flushed: libav crashes the process where
        a packet follows a header that could not be written.
        """
        container = self._container
        self._container = None
        if container is None:
            return
        try:
            if self._whole:
                container.mux(self._stream.encode(None))
        finally:
            container.close()
