"""One self-contained HTML page: everything inside, nothing fetched, no text taken for markup."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --soft: #66645e;
  --rule: #dddad2; --band: #f6f5f1; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --ink: #e8e6e1; --soft: #a5a29a;
  --rule: #3a3e44; --band: #1d2024; --mark: #56b4e9; } }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p.lead { font-size: 1.1rem; margin: .3rem 0 1rem; } p, figcaption, li { max-width: 62rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; } figcaption, .soft {
  color: var(--soft); font-size: .9rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--rule);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { background: var(--band); }
thead button { all: unset; cursor: pointer; font-weight: 600; }
thead button:focus-visible { outline: 2px solid var(--mark); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tr.best td { font-weight: 650; } pre { background: var(--band); padding: .8rem; overflow-x: auto;
  font-size: .8rem; line-height: 1.35; } summary { cursor: pointer; }
"""
SORT = """
for (const table of document.querySelectorAll("table.sorts")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].textContent;
      const order = (a, b) => {
        const [x, y] = [Number(value(a)), Number(value(b))];
        return Number.isNaN(x) || Number.isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
      };
      const rows = [...table.tBodies[0].rows].sort((a, b) => up ? order(a, b) : order(b, a));
      table.tBodies[0].append(...rows);
    });
  });
}
"""


def page(title: str, body: Sequence[str], *, script: str = SORT, style: str = "") -> str:
    """Return a whole page.

    Its policy lets nothing in but pictures inside the page and the very style and script that are
    written here, told by their checksums: no request leaves it, and no markup that slipped in runs.

    Args:
        title: Plain text.
        body: Markup, made by the functions here or escaped.
        script: What runs at the end.
        style: What is added to `STYLE`.
    """
    sheet = STYLE + style
    policy = (
        f"default-src 'none'; img-src data:; style-src {_checksum(sheet)}; "
        f"script-src {_checksum(script)}; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{sheet}</style></head><body>",
            *body,
            f"<script>{script}</script></body></html>\n",
        ]
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return text as a paragraph of a class."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>'


def heading(text: str, level: int = 2) -> str:
    """Return text as a heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def listing(lines: Sequence[str]) -> str:
    """Return lines as a list."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def folded(title: str, text: str) -> str:
    """Return text that a click unfolds."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def table(frame: pd.DataFrame, *, digits: int = 3, best: str | None = None) -> str:
    """Return a table that a click on a column's head sorts.

    Args:
        frame: Columns as they are shown; the index is not.
        digits: Of floats.
        best: First cell of the row to stand out.
    """
    heads = "".join(
        f'<th scope="col"><button type="button">{escape(str(column))}</button></th>'
        for column in frame.columns
    )
    rows = []
    for values in frame.itertuples(index=False):
        cells = [f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in values]
        mark = ' class="best"' if best is not None and cells[0] == best else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>")
    body = "\n".join(rows)
    return (
        f'<div class="wide"><table class="sorts"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def picture(path: Path, said: str, dark: Path | None = None) -> str:
    """Return a PNG or GIF inside the page, and another for dark paper, with what it shows."""
    other = ""
    if dark is not None:
        other = f'<source media="(prefers-color-scheme: dark)" srcset="{data_address(dark)}">'
    return (
        f'<figure><picture>{other}<img src="{data_address(path)}" alt="{escape(said)}"></picture>'
        f"<figcaption>{escape(said)}</figcaption></figure>"
    )


def side_by_side(parts: Sequence[str]) -> str:
    """Return markup in columns where there is room."""
    return f'<div class="pair">{"".join(parts)}</div>'


def data_address(path: Path) -> str:
    """Return the bytes of a picture as an address that needs no network."""
    if path.suffix == ".gif":
        return f"data:image/gif;base64,{b64encode(path.read_bytes()).decode()}"
    small = BytesIO()
    with Image.open(path) as found:  # 256 colours are enough, and a third of the bytes
        found.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png")
    return f"data:image/png;base64,{b64encode(small.getvalue()).decode()}"


def _checksum(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
