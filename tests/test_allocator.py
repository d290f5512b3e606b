"""What trainings ask of glibc's allocator, seen by the pages that the system hands out."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from crevnet import allocator
from crevnet.allocator import allocating
from flows.fabric import training_fabric
from tests.conftest import ROOT
from tests.toy_training import settings

BLOCKS, SIZE = 40, 64 << 20
ASK = f"""
import json, resource, sys
from crevnet import allocator
import torch
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize()
def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def step():
    before = pages()
    for _ in range({BLOCKS}):
        torch.ones({SIZE} // 4)
    return pages() - before
torch.ones(9)  # which loads whatever it needs
found = [held()]
for name in sys.argv[1:]:
    assert getattr(allocator, name)()
    found += [held(), step(), held()]
print(json.dumps(found))
"""


def asked(*names):
    """Bytes held at first; then by what is asked for, held at once, handed out, held after."""
    run = [sys.executable, "-c", ASK, *names]
    found = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return json.loads(found)


@pytest.mark.skipif(not allocator.as_before(), reason="the C library is not glibc")
def test_freed_blocks_are_kept_or_given_back_as_asked():
    first, _, handed_out, kept, at_once, _, _ = asked("keep_freed_blocks", "as_before")
    assert handed_out < BLOCKS / 2 * SIZE  # a few times, and used again
    assert kept - first > SIZE / 2
    assert at_once - first < SIZE / 2
    for name in ("return_large_blocks", "as_before"):
        first, _, _, held = asked(name)
        assert held - first < SIZE / 2


@pytest.mark.parametrize(
    ("memory", "wish"), [("plain", "keep_freed_blocks"), ("frugal", "return_large_blocks")]
)
def test_a_training_asks_for_what_its_memory_says(monkeypatch, tmp_path, memory, wish):
    heard = []
    for name in ("keep_freed_blocks", "return_large_blocks", "as_before"):
        monkeypatch.setattr(allocator, name, lambda name=name: heard.append(name))
    with training_fabric(settings(memory=memory), tmp_path, "training"):
        assert heard == [wish]
    assert heard == [wish, "as_before"]
    with pytest.raises(KeyError), allocating(memory):
        raise KeyError
    assert heard == [wish, "as_before"] * 2


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not allocator.keep_freed_blocks()
