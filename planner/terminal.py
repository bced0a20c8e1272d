"""What explanations draw in a terminal: bars, stretches on a scale, and the console itself."""

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.text import Text

PIPED_COLUMNS = 100
"""Where stdout is no terminal, the lines are this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ink:
    """How a bar's part is drawn: its style, its character, and the one where only ASCII goes."""

    style: str
    block: str
    plain: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Stacked parts, in columns of at most *width*; ``cut`` marks one that went on."""

    parts: Sequence[tuple[Ink, float]]
    width: int
    cut: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        text = Text(no_wrap=True)
        end, drawn = 0.0, 0
        for ink, length in self.parts:
            end += length
            upto = min(round(end), self.width)
            character = ink.plain if options.ascii_only else ink.block
            text.append(character * (upto - drawn), style=ink.style)
            drawn = max(upto, drawn)
        if self.cut:
            text.append(">" if options.ascii_only else "▸")
        yield text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.width + 1, self.width + 1)


@dataclass(frozen=True, slots=True)
class Legend:
    """What each ink means."""

    inks: Mapping[str, Ink]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield self._text(ascii_only=options.ascii_only)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = self._text(ascii_only=options.ascii_only).cell_len
        return Measurement(width, width)

    def _text(self, *, ascii_only: bool) -> Text:
        parts = (
            Text(f"{ink.plain if ascii_only else ink.block} {name}", style=ink.style)
            for name, ink in self.inks.items()
        )
        return Text("  ").join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A line from one column to another of *width*, with a mark on it or beside it."""

    begin: float
    end: float
    mark: float | None
    width: int
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        last = self.width - 1
        first, upto = round(self.begin * last), round(self.end * last)
        line, dot = ("-", "o") if options.ascii_only else ("━", "●")
        text = Text(" " * first, no_wrap=True)
        text.append(line * (upto - first + 1), style=self.style)
        if self.mark is not None:
            at = round(self.mark * last)
            text = text[:at] + Text(dot, style="bold") + text[at + 1 :]
        yield text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.width, self.width)


def on_log_scale(value: float, low: float, high: float) -> float:
    """Where *value* lies between *low* (0) and *high* (1) on a logarithmic scale."""
    if high <= low:
        return 0.0
    return min(max(math.log(value / low) / math.log(high / low), 0.0), 1.0)


def show(parts: Iterable[RenderableType], *, console: Console | None = None) -> None:
    """Print to the terminal, or in lines of :data:`PIPED_COLUMNS` where stdout is none.

    A character that the terminal cannot show becomes a question mark.
    """
    console = console or Console()
    if isinstance(console.file, io.TextIOWrapper):
        console.file.reconfigure(errors="replace")
    if not console.is_terminal:
        console = Console(width=PIPED_COLUMNS, file=console.file)
    for part in parts:
        console.print(part)
