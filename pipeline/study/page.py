"""The page that judges see: two films at a time, one click each, answers saved as a file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from pipeline.films import write_gif
from pipeline.palette import PAPER, SOFT, as_picture, value_indices
from pipeline.web_page import heading, page, paragraph

MILLISECONDS = 180
ZOOMED = 384
"""Pixels on the judge's screen that a film is about as wide as."""
STYLE = """
.trial { display: none; } .trial.now { display: block; }
.films { display: flex; gap: 2vw; justify-content: center; }
.films button { all: unset; cursor: pointer; text-align: center; border: 3px solid var(--rule);
  padding: .4rem; } .films button:hover, .films button:focus-visible { border-color: var(--mark); }
.films img { image-rendering: pixelated; width: min(384px, 42vw); display: block; }
#save, #judge { font: inherit; padding: .5rem 1rem; } #end { display: none; }
"""
SCRIPT = """
const trials = [...document.querySelectorAll(".trial")];
const study = document.body.querySelector("main").dataset.study;
const kept = "study " + study;
const read = () => { try { return JSON.parse(localStorage.getItem(kept)) || []; }
  catch { return []; } };
const keep = (value) => { try { localStorage.setItem(kept, JSON.stringify(value)); } catch {} };
let answers = read();
let since = performance.now();
const show = () => {
  trials.forEach((trial, place) => trial.classList.toggle("now", place === answers.length));
  for (const film of trials[answers.length]?.querySelectorAll("img") ?? []) {
    const address = film.src; film.src = ""; film.src = address;
  }
  document.querySelector("#count").textContent =
    Math.min(answers.length + 1, trials.length) + " of " + trials.length;
  document.querySelector("#end").style.display =
    answers.length === trials.length ? "block" : "none";
  since = performance.now();
};
const answer = (side) => {
  if (answers.length === trials.length) return;
  const ms = Math.round(performance.now() - since);
  answers.push({ pair: answers.length, side, ms });
  keep(answers);
  show();
};
for (const button of document.querySelectorAll(".films button"))
  button.addEventListener("click", () => answer(button.dataset.side));
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT") return;
  if (event.key === "ArrowLeft") answer("left");
  if (event.key === "ArrowRight") answer("right");
});
document.querySelector("#save").addEventListener("click", () => {
  const judge = document.querySelector("#judge").value;
  const text = JSON.stringify({ study, judge, answers }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "answers_" + study + ".json";
  link.click();
});
document.querySelector("#again").addEventListener("click", () => {
  answers = []; keep(answers); show();
});
show();
"""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What is shown at once: films `(L, H, W)` uint8 after the same history `(T, H, W)`."""

    history: NDArray[np.uint8]
    left: NDArray[np.uint8]
    right: NDArray[np.uint8]


def study_page(title: str, study: str, trials: Sequence[Trial]) -> str:
    """Return the page; nothing in it tells which side is which.

    Args:
        title: What the judges read above.
        study: Goes back with the answers.
        trials: In the order in which they are asked.
    """
    body = [
        heading(title, 1),
        paragraph(
            "One of the two films is what really happened, the other was forecast; both begin "
            "with the same frames, under a grey bar. Click the film that you think is real, or "
            "press the left or right arrow key. There is no hurry and no way back.",
        ),
        f'<p class="soft">Pair <span id="count"></span></p><main data-study="{escape(study)}">',
    ]
    for trial in trials:
        films = "".join(
            f'<button type="button" data-side="{side}">'
            f'<img alt="{side} film" src="{film(trial.history, future)}">{side}</button>'
            for side, future in (("left", trial.left), ("right", trial.right))
        )
        body.append(f'<section class="trial"><div class="films">{films}</div></section>')
    body.append(
        '</main><section id="end"><p>That was all, thank you. Save the answers and send the file '
        'back.</p><p><label>Your name or initials, if you like: <input id="judge" maxlength="60">'
        '</label> <button type="button" id="save">Save answers</button></p>'
        '<p><button type="button" id="again">Forget these answers and begin again</button></p>'
        "</section>"
    )
    return page(title, body, script=SCRIPT, style=STYLE)


def film(history: NDArray[np.uint8], future: NDArray[np.uint8]) -> str:
    """Return history and future as the address of an endless GIF, a grey bar above the history."""
    frames = np.concatenate([history, future])
    zoom = max(1, ZOOMED // frames.shape[2] // 2)
    pages = []
    for number, frame in enumerate(value_indices(frames)):
        bar = np.full((2, frame.shape[1]), SOFT if number < len(history) else PAPER, np.uint8)
        pages.append(as_picture(np.concatenate([bar, frame]), zoom))
    pause = [MILLISECONDS] * (len(pages) - 1) + [5 * MILLISECONDS]
    file = BytesIO()
    write_gif(file, pages, pause)
    return f"data:image/gif;base64,{b64encode(file.getvalue()).decode()}"
