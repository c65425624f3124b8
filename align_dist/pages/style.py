"""The style sheet of pages: printable, light or dark by the reader's system setting."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #5b6270; --line: #d9dce2; --paper: #ffffff;
        --shade: #f5f6f8; --accent: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --soft: #a0a7b4; --line: #383d47; --paper: #16181d; --shade: #1f2229;
          --accent: #7fb4ec; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 2.2rem 1.4rem 4rem; background: var(--paper);
       color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.65rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; overflow-wrap: anywhere; margin: 2.6rem 0 .6rem; padding-bottom: .3rem;
     border-bottom: 1px solid var(--line); }
h3 { font-size: .98rem; margin: 1.6rem 0 .4rem; }
p { max-width: 78ch; margin: .5rem 0; }
.soft, .notes { color: var(--soft); font-size: .85rem; }
.notes p { margin: .2rem 0; }
.warning { border-left: 3px solid #c9752b; background: var(--shade); padding: .5rem .9rem; max-width: none; }
figure { margin: 1rem 0 1.6rem; }
figcaption { font-weight: 600; margin-bottom: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .75rem; min-width: 40%; }
th, td { padding: .34rem .3rem; text-align: right; white-space: nowrap;
         border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: .93em; vertical-align: bottom; white-space: normal; line-height: 1.25;
     border-bottom: 1.5px solid var(--ink); }
th span { white-space: nowrap; } td small { color: var(--soft); font-size: .88em; }
.name { text-align: left; padding-left: 0; }
td.name { font-weight: 500; }
tbody tr:hover { background: var(--shade); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0; font-size: .88rem; }
a { color: var(--accent); }
th button { all: unset; cursor: pointer; } th button:hover { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th[aria-sort="ascending"] button::after { content: " ↑"; }
th[aria-sort="descending"] button::after { content: " ↓"; }
.plot { overflow-x: auto; } .plot svg { display: block; max-width: 100%; height: auto; }
.plot svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif !important; }
.plot figcaption, .tile figcaption { font-weight: 400; font-size: .8rem; color: var(--soft); margin: .2rem 0 0; }
.row { margin: .6rem 0 1.4rem; } h4 { font-size: .85rem; font-weight: 500; margin: 0 0 .35rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .5rem 1rem; }
.tile { margin: 0; width: min-content; } .zoom { all: unset; cursor: zoom-in; }
.zoom img { display: block; height: 96px; width: auto; border-radius: 3px; }
dialog { border: 1px solid var(--line); border-radius: 6px; background: var(--paper); color: var(--ink);
         max-width: 96vw; cursor: zoom-out; } dialog::backdrop { background: #000a; }
dialog img { width: auto; height: 60vh; max-width: 92vw; object-fit: contain; margin-top: .6rem; }
details { border: 1px solid var(--line); border-radius: 5px; padding: .35rem .8rem; margin: .5rem 0; }
summary { cursor: pointer; font-size: .9rem; }
summary:hover { color: var(--accent); }
pre { overflow-x: auto; font: .78rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
      background: var(--shade); padding: .7rem .9rem; border-radius: 4px; }
dl { display: grid; grid-template-columns: fit-content(70%) 1fr; gap: .2rem 1.2rem; font-size: .88rem; }
dt { color: var(--soft); overflow-wrap: anywhere; } dd { margin: 0; overflow-wrap: anywhere; }
@media print {
  @page { size: landscape; margin: 12mm; }
  :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --shade: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  table { font-size: 7.5pt; } th, td { padding: 2pt 4pt; }
  tr, figure, .row { break-inside: avoid; } nav, .zoom::after { display: none; } h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; } details { border: 0; padding: 0; } }
"""
