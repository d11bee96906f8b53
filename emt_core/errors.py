"""The error that a user sees (what went wrong, where, what to do), and the end by Ctrl-C."""

from __future__ import annotations


class Stopped(BaseException):
    """Ctrl-C or SIGTERM, and what to say; not a KeyboardInterrupt, to which typer gives an exit
    code of its own."""

    def __init__(
        self,
        says: str = "stopped; what was committed is kept, and the same command goes on from there",
    ):
        super().__init__(says)


class EmtError(Exception):
    """A problem that the user can act on. The command line prints it without a traceback and exits
    with code 2.

    what: one sentence; where: the file, row, field or stage; remedy: the next thing to do.
    """

    def __init__(self, what: str, *, where: object = "", remedy: str = "") -> None:
        self.what = what.rstrip(".")
        self.where = str(where)
        self.remedy = remedy
        super().__init__(self.message())

    def message(self) -> str:
        lines = [self.what + "."]
        if self.where:
            lines.append(f"  where:  {self.where}")
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)
