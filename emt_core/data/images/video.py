"""Frames of a video by time, through PyAV: reads on to a near frame, seeks to a far one."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_core.data.images.handles import ImageProblem

if TYPE_CHECKING:
    from PIL import Image


class Video:
    """An open video. Asking for times in rising order decodes every frame at most once."""

    def __init__(self, path: Path) -> None:
        import av
        from av.error import FFmpegError

        self.path = path
        try:
            self.container = av.open(str(path), mode="r")
        except (FFmpegError, OSError, ValueError) as error:
            raise ImageProblem(
                "undecodable_image",
                "cannot be opened as a video: "
                f"{error.strerror if isinstance(error, OSError) else error}",
            ) from error
        if not self.container.streams.video:
            self.container.close()
            raise ImageProblem("undecodable_image", "no video stream")
        self.stream = self.container.streams.video[0]
        if self.stream.codec_context is None:
            self.container.close()
            raise ImageProblem(
                "undecodable_image",
                "its codec is none that PyAV decodes: encode it anew as H.264 (ffmpeg -i OLD.mp4 "
                "-c:v libx264 NEW.mp4)",
            )
        self.stream.codec_context.thread_count = (
            1  # decoding is spread over processes, one video each
        )
        self.frame_s = float(1 / self.stream.average_rate) if self.stream.average_rate else 1 / 30
        self.time_base = float(self.stream.time_base or 1 / 90_000)
        self._frames: Any = None
        self._last: Any = None

    @property
    def pixels(self) -> int:
        return self.stream.codec_context.width * self.stream.codec_context.height

    @property
    def size(self) -> tuple[int, int]:
        return self.stream.codec_context.width, self.stream.codec_context.height

    @property
    def seconds(self) -> float | None:
        """Length as the header says it; None where it does not."""
        if self.stream.duration is not None:
            return (self.stream.duration + (self.stream.start_time or 0)) * self.time_base
        return self.container.duration / 1e6 if self.container.duration is not None else None

    def check(self, time: float, max_pixels: int) -> None:
        """By header only. Raises ImageProblem."""
        if self.pixels > max_pixels:
            raise ImageProblem(
                "pixel_bomb", f"{self.pixels:,} pixels a frame, at most {max_pixels:,}"
            )
        end = self.seconds
        if time < 0 or (end is not None and time > end + self.frame_s):
            raise ImageProblem(
                "missing_image", f"the video ends at {end:.3f} s, before {time:.3f} s"
            )

    def image_at(self, time: float, max_pixels: int) -> Image.Image:
        """The RGB frame shown at `time` (s; half a frame of tolerance). Raises ImageProblem."""
        from av.error import FFmpegError

        self.check(time, max_pixels)
        try:
            frame = self._frame_at(time)
        except (FFmpegError, ValueError) as error:
            self._frames = self._last = None
            raise ImageProblem("undecodable_image", f"at {time:.3f} s: {error}") from error
        if frame is None or frame.time < time - 1.5 * self.frame_s:
            raise ImageProblem("undecodable_image", f"no frame at {time:.3f} s")
        return frame.to_image()

    def _frame_at(self, time: float) -> Any:
        wanted = time - 0.5 * self.frame_s
        last = self._last
        if last is not None and wanted <= last.time < time + 0.5 * self.frame_s:
            return last
        if last is None or last.time >= wanted or self._keyframe_between(last.time, time):
            self._seek(time)
        for frame in self._frames:
            self._last = frame
            if frame.time >= wanted:
                return frame
        self._frames = None
        last, self._last = self._last, None  # the decoder is at its end: the next call seeks
        return last

    def _seek(self, time: float) -> None:
        """Decode on from a keyframe whose first frame is shown at or before `time`.

        Behind an open group of pictures (HEVC) the decoder drops the pictures that are shown before
        the keyframe, so that the first frame comes too late: then from a keyframe before.
        """
        back = 0.0
        while True:
            target = max(time - back, 0.0)
            self.container.seek(
                max(int(target / self.time_base), 0), stream=self.stream, backward=True
            )
            self._last = None
            self._frames = self.container.decode(self.stream)
            first = next(self._frames, None)
            if first is not None:
                self._frames = chain([first], self._frames)
            if first is None or first.time <= time + 0.5 * self.frame_s or target == 0.0:
                return
            back = max(2 * back, time - target + 1.0)

    def _keyframe_between(self, start: float, stop: float) -> bool:
        """Whether a seek to `stop` skips frames that reading on from `start` would decode."""
        entries = self.stream.index_entries
        at = (
            entries.search_timestamp(int(stop / self.time_base), backward=True)
            if len(entries)
            else -1
        )
        if at < 0:
            return stop - start > 2.0  # no index: guess a keyframe every two seconds
        return entries[at].timestamp * self.time_base > start + 0.5 * self.frame_s

    def close(self) -> None:
        self.container.close()
