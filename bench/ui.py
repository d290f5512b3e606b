"""What a person sees: a night of the plan on a synthetic city, in headless Chromium.

    python bench/ui.py [--out docs]

Starts a server and a worker as the README does, in a folder of its own, runs the nightly ingest and
what follows it, and takes pictures of the runs, of the ladder's table and of an error map. Then
leaves a table and a text with names that are HTML, opens both, and looks whether any of it ran.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image

from flows.serving_settings import client_settings, server_settings
from tests.conftest import ROOT
from tests.test_browser import browser
from tests.test_schedule import T4C, ask, free_port, running, wait_for

CONFIG = """
edition: synthetic
grid: [99, 87]
release: data/release
truth: data/truth
store: data/store
out: out
synth: {seed: 2019, training: 6, validation: 2, test: 2}
ladder: [persistence, zeros, moving_average_3, window_mean, climatology, mix]
maps: {models: [mix], parts: []}
"""
CHAIN = ("nightly-ingest", "rescore", "maps", "regenerate-submission")
EVIL = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"""
LEAVE = """
import sys
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from flows.recipe import as_text
print(create_table_artifact([{sys.argv[1]: sys.argv[1]}], key="evil-table"))
print(create_markdown_artifact(as_text(sys.argv[1]), key="evil-text"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    out = parser.parse_args().out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        look(Path(folder), out)


def look(folder: Path, out: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    environ |= {"PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(ROOT)}
    port = free_port()
    url = server_settings(port, environ=environ)["PREFECT_API_URL"]
    mine = environ | {"PREFECT_API_URL": url, "T4C_FOLDER": str(folder)}
    mine |= client_settings(mine)
    (folder / "city.yaml").write_text(CONFIG)

    def t4c(*verb: str) -> None:
        subprocess.run([*T4C, *verb], env=mine, cwd=folder, check=True)

    t4c("synth", "city.yaml")
    log = folder / "log"
    with running([*T4C, "server", "--port", str(port)], log, environ) as server:
        wait_for("server", lambda: httpx.get(f"{url}/health").is_success, server, log, 1200)
        t4c("deploy", "city.yaml")
        t4c("prefect", "deployment", "run", "ingest/nightly-ingest")
        with running([*T4C, "worker"], folder / "worker.log", mine) as worker:
            wait_for("night", lambda: done(mine), worker, folder / "worker.log", 3600)
        left = subprocess.run(
            [sys.executable, "-c", LEAVE, EVIL],
            env=mine,
            check=True,
            capture_output=True,
            text=True,
        )
        pictures(mine, url.removesuffix("/api"), folder, out, left.stdout.split())


def done(server: dict[str, str]) -> bool:
    runs = ask(server, "/flow_runs/filter").json()
    states = {run["name"]: run["state_type"] for run in runs if run["state_type"] != "SCHEDULED"}
    assert not {"FAILED", "CRASHED"} & {*states.values()}, states
    return len(states) == len(CHAIN) and {*states.values()} == {"COMPLETED"}


def pictures(server: dict, page: str, folder: Path, out: Path, evil: list[str]) -> None:
    ids = {a["key"]: a["id"] for a in ask(server, "/artifacts/filter").json()}
    chosen = next(key for key in sorted(ids) if key.startswith("error-map-"))
    views = {
        "ui_runs": ("/runs", "nightly-ingest"),
        "ui_table": (f"/artifacts/artifact/{ids['synthetic-ladder']}", "climatology"),
        "ui_map": (f"/artifacts/artifact/{ids[chosen]}", "Error map"),
    }
    with browser(folder) as tab:
        tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=1280,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        for name, (path, text) in views.items():
            shown(tab, page + path, text)
            shot(tab, out / f"{name}.png")
        for number in evil:
            shown(tab, f"{page}/artifacts/artifact/{number}", "onerror")
            title = tab.run("document.title")
            assert "owned" not in title, title
            print(f"shown as text, nothing ran: {title}")


def shown(tab, url: str, text: str) -> None:
    """Open a page and wait until a text is to be read on it."""
    tab.call("Page.enable")
    tab.call("Page.navigate", url=url)
    end = time.time() + 900
    while text not in (tab.run("document.body ? document.body.innerText : ''") or ""):
        assert time.time() < end, f"{url}: {tab.run('document.body.innerText')}"
        time.sleep(0.5)
    time.sleep(5)  # pictures and charts


def shot(tab, path: Path) -> None:
    tab.screenshot(path)
    small = Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    small.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
