"""The report's stylesheet.

The colours follow Okabe and Ito's palette, which people tell apart whatever colours they see, a
little darker where white text stands on them.
"""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --wash: #f5f7f9; --ink: #1a1f24; --muted: #58636d; --line: #d8dee4;
  --grid: #e9edf0; --on: #ffffff; --on-light: #1a1f24;
  --device: #0068a5; --codec: #6bbce8; --link: #e69f00; --trip: #f4d48d; --cloud: #00775a;
  --down: #d590b7; --split: #c44f00; --faint: #aab3bb;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #13171b; --wash: #1b2025; --ink: #e8ebee; --muted: #9ca7b1; --line: #343c44;
    --grid: #262d33; --on: #13171b; --on-light: #13171b;
    --device: #56abe4; --codec: #a9daf6; --link: #f2b632; --trip: #a08446; --cloud: #35bf97;
    --down: #dfa3c4; --split: #ff9557; --faint: #5a646d;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
main { max-width: 1056px; margin: 0 auto; padding: 48px 32px 64px; }
.over { margin: 0; color: var(--muted); font-size: 13px; letter-spacing: .08em;
  text-transform: uppercase; }
h1 { margin: 4px 0 20px; font-size: 30px; line-height: 1.2; font-weight: 650;
  letter-spacing: -.015em; }
h1 small { font-size: 18px; font-weight: 400; color: var(--muted); letter-spacing: 0; }
h2 { margin: 52px 0 4px; font-size: 20px; font-weight: 650; letter-spacing: -.01em; }
h2 + p { margin: 0 0 16px; color: var(--muted); max-width: 46em; }
.answer { border-left: 4px solid var(--kind, var(--split)); padding: 2px 0 2px 20px; }
.answer.edge { --kind: var(--device); } .answer.cloud { --kind: var(--cloud); }
.answer p { margin: 0; max-width: 46em; color: var(--muted); }
.answer p.choice { font-size: 21px; line-height: 1.4; color: var(--ink); }
.answer b { font-weight: 650; }
dl.figures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; margin: 28px 0 0;
  background: var(--line); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
dl.figures div { background: var(--paper); padding: 14px 18px 12px; }
dl.figures dt { font-size: 13px; color: var(--muted); }
dl.figures dd { margin: 2px 0 0; font-size: 22px; line-height: 1.25; font-weight: 600; }
dl.figures dd small { display: block; margin-top: 4px; font-size: 13px; line-height: 1.4;
  font-weight: 400; color: var(--muted); }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; font-size: 12px; }
svg.narrow { display: none; font-size: 11px; }
svg text { fill: var(--ink); }
svg .mute { fill: var(--muted); }
svg .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg .strong { font-weight: 650; }
svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--line); }
svg .lead { stroke: var(--faint); fill: none; stroke-width: .75; }
svg .break { stroke: var(--faint); stroke-dasharray: 1 3; }
svg .here { stroke: var(--ink); stroke-width: 1.25; }
svg .hover { stroke: var(--muted); stroke-width: 1; visibility: hidden; }
svg .curve { fill: none; stroke-width: 1.5; }
svg .envelope { fill: none; stroke: var(--ink); stroke-width: 8; opacity: .14;
  stroke-linejoin: round; }
svg .curve.best { stroke-width: 2.5; }
svg .curve.baseline { stroke-dasharray: 6 4; }
svg .curve.refused { stroke: var(--faint); stroke-dasharray: 2 3; stroke-width: 1.25; }
svg .edge { stroke: var(--device); } svg .split { stroke: var(--split); }
svg .cloud { stroke: var(--cloud); }
svg text.edge { fill: var(--device); stroke: none; } svg text.split { fill: var(--split);
  stroke: none; } svg text.cloud { fill: var(--cloud); stroke: none; }
svg text.refused { fill: var(--muted); }
svg .band { stroke: var(--paper); stroke-width: 1; }
svg .band.edge, svg .fill-device { fill: var(--device); }
svg .band.split { fill: var(--split); }
svg .band.cloud, svg .fill-cloud { fill: var(--cloud); }
svg .fill-codec { fill: var(--codec); } svg .fill-link { fill: var(--link); }
svg .fill-trip { fill: var(--trip); } svg .fill-down { fill: var(--down); }
svg .on { fill: var(--on); } svg .on-light { fill: var(--on-light); }
svg .tint { opacity: .07; }
svg .area { opacity: .22; }
svg .thin { fill: none; stroke-width: 1.5; }
svg .ink { stroke: var(--ink); fill: none; }
svg .dot { fill: var(--paper); stroke: var(--ink); stroke-width: 1.5; }
svg .chosen { fill: var(--ink); }
svg .refused-bar rect { opacity: .4; } svg .refused-bar text { fill: var(--ink); }
.readout { min-height: 3em; margin: 6px 0 0; font-size: 14px; color: var(--muted); }
.readout b { color: var(--ink); font-weight: 600; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0 0 12px; padding: 0;
  list-style: none; font-size: 13px; color: var(--muted); }
.keys li { display: flex; align-items: center; gap: 7px; }
.keys svg { width: 22px; height: 12px; flex: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; line-height: 1.4; }
th { text-align: right; font-weight: 500; color: var(--muted); font-size: 13px;
  vertical-align: bottom; }
td { text-align: right; vertical-align: top; white-space: nowrap; }
th, td { padding: 7px 0 7px 14px; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
tbody th { white-space: nowrap; }
tbody th { font-weight: 500; font-size: 14px; color: var(--ink); vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; }
.left { text-align: left; }
td.names { min-width: 160px; white-space: normal; text-align: left; overflow-wrap: anywhere; }
td.names small, tbody th small { display: block; color: var(--muted); font-size: 13px;
  font-weight: 400; }
tr.chosen > * { background: var(--wash); font-weight: 600; }
tr.chosen th:first-child, tr.chosen td:first-child { box-shadow: inset 3px 0 var(--ink);
  padding-left: 12px; }
tr.refused > * { color: var(--muted); }
.tag { display: inline-block; margin-left: 8px; padding: 0 7px; border: 1px solid var(--line);
  border-radius: 9px; font-size: 12px; font-weight: 400; color: var(--muted); }
dl.notes { display: grid; grid-template-columns: max-content 1fr; gap: 8px 28px; margin: 12px 0 0;
  font-size: 15px; }
dl.notes dt { color: var(--muted); }
dl.notes dd { margin: 0; max-width: 50em; }
dl.notes code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 720px) {
  main { padding: 28px 16px 48px; }
  h1 { font-size: 25px; }
  h2 { margin-top: 40px; }
  .answer { padding-left: 14px; }
  .answer p.choice { font-size: 18px; }
  dl.figures { grid-template-columns: repeat(2, 1fr); }
  dl.figures div { padding: 12px 14px 10px; }
  dl.figures dd { font-size: 19px; }
  figure svg.wide { display: none; }
  figure svg.narrow { display: block; }
  dl.notes { grid-template-columns: 1fr; gap: 0; }
  dl.notes dd { margin-bottom: 12px; }
}
@media print {
  body { font-size: 11pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  figure, tr, dl.figures { break-inside: avoid; }
  h2 { break-after: avoid; }
  .readout { display: none; }
  .scroll { overflow: visible; }
}
"""
