"""The pages in a headless browser, over its debugging socket; skipped where there is none."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from pipeline import web_page as web
from pipeline.study.judging import judge
from pipeline.study.pairs import Pair, make_study, read_key

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
client = pytest.importorskip("websockets.sync.client")
EVIL = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>'


class Tab:
    """One page of the browser."""

    def __init__(self, socket):
        self.socket, self.number, self.events = socket, 0, []

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self.socket.recv(timeout=60))
            if said.get("id") == self.number:
                assert "error" not in said, said
                return said["result"]
            self.events.append(said)

    def run(self, code):
        result = self.call("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, code):
        end = time.time() + 60
        while not self.run(code):
            assert time.time() < end, code
            time.sleep(0.1)

    def open(self, path):
        self.call("Page.enable")
        self.call("Network.enable")
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete'")

    def screenshot(self, path):
        shot = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def requested(self):
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def browser(folder: Path):
    """Start a browser that downloads into a folder; yield its page."""
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        said = folder / "profile" / "DevToolsActivePort"
        end = time.time() + 120
        while not said.is_file() or len(said.read_text().split()) < 2:
            assert process.poll() is None, "the browser ended"
            assert time.time() < end, "the browser does not answer"
            time.sleep(0.2)
        port, path = said.read_text().split()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=60) as answer:
            page = next(one for one in json.load(answer) if one["type"] == "page")
        with client.connect(f"ws://127.0.0.1:{port}{path}", max_size=2**26) as whole:
            Tab(whole).call(
                "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder)
            )
            with client.connect(page["webSocketDebuggerUrl"], max_size=2**26) as socket:
                yield Tab(socket)
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_a_study_is_answered_through_its_page_and_scored(tmp_path):
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(9):
        history = np.zeros((3, 12, 16), np.uint8)
        truth = rng.integers(150, 255, (4, 12, 16), dtype=np.uint8)  # bright: real
        model = "better" if number % 2 else "worse"
        pairs.append(Pair(model, f"{EVIL} {number}", history, truth, truth // 9))
    page, key_path = make_study(tmp_path / "study", f"Which? {EVIL}", pairs, 5)
    with browser(tmp_path) as tab:
        tab.open(page)
        assert tab.run("document.title") == f"Which? {EVIL}"
        assert tab.run("document.querySelector('#count').textContent") == "1 of 9"
        bright = """
            (() => { const films = [...document.querySelectorAll('.trial.now img')];
            const light = films.map((film) => { const canvas = document.createElement('canvas');
              canvas.width = film.naturalWidth; canvas.height = film.naturalHeight;
              const draw = canvas.getContext('2d'); draw.drawImage(film, 0, 0);
              return draw.getImageData(0, 0, canvas.width, canvas.height).data
                .reduce((a, b) => a + b, 0); });
            return light; })()"""
        tab.wait(
            "[...document.querySelectorAll('.trial.now img')].every((i) => i.complete && "
            "i.naturalWidth > 0)"
        )
        assert len(tab.run(bright)) == 2
        key = read_key(key_path)
        for number, asked in enumerate(key.pairs):
            wrong = {"left": "right", "right": "left"}[asked.truth]
            side = wrong if number == 0 else asked.truth
            if number % 2:
                tab.run(f"document.querySelector('.trial.now button[data-side={side}]').click()")
            else:
                arrow = f"Arrow{side.title()}"
                tab.run(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{arrow}'}}))")
        assert tab.run("getComputedStyle(document.querySelector('#end')).display") == "block"
        tab.run("document.querySelector('#judge').value = 'A <b>judge</b>'")
        tab.run("document.querySelector('#save').click()")
        saved = tmp_path / f"answers_{key.study}.json"
        end = time.time() + 60
        while not saved.is_file():
            assert time.time() < end, "nothing was saved"
            time.sleep(0.1)
        leaving = [
            url for url in tab.requested() if not url.startswith(("file:", "data:", "blob:"))
        ]
        assert leaving == []
    found = judge(key, [saved])
    assert found.models["answers"].sum() == 9
    assert found.models["right"].sum() == 8
    assert "A <b>judge</b>" in found.judges.index[0]


@contextmanager
def listener():
    """A server on this machine; yield its address and the paths that were asked for."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()


def test_markup_in_words_stays_words_and_tables_sort(tmp_path):
    frame = pd.DataFrame({f"na{EVIL}me": [EVIL, "b", "a"], "mse": [2.0, 10.0, 1.0]})
    body = [web.heading(EVIL, 1), web.paragraph(EVIL), web.listing([EVIL]), web.table(frame)]
    body += [web.folded(EVIL, EVIL), f"<p>{'x'}</p><script>document.title = 'ran'</script>"]
    path = tmp_path / "page.html"
    with listener() as (address, heard), browser(tmp_path) as tab:
        urllib.request.urlopen(f"{address}/knock").read()
        assert heard == ["/knock"]
        slipped = f"<img src='{address}/leak.png'><link rel=stylesheet href='{address}/leak.css'>"
        path.write_text(web.page(EVIL, [*body, slipped]))
        tab.open(path)
        assert tab.run("document.title") == EVIL
        assert tab.run("document.querySelectorAll('img').length") == 1
        first = "document.querySelector('tbody tr').cells[1].textContent"
        tab.run("document.querySelectorAll('thead button')[1].click()")
        assert tab.run(first) == "1.000"
        tab.run("document.querySelectorAll('thead button')[1].click()")
        assert tab.run(first) == "10.000"  # as numbers, not as words
        assert heard == ["/knock"]
