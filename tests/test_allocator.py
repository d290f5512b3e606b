"""What trainings ask of glibc's allocator, seen by the pages that the system hands out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

BLOCKS, SIZE = 40, 64 << 20
ASK = f"""
import json, resource, sys
from crevnet import allocator
asked = getattr(allocator, sys.argv[1])() if sys.argv[1] else None
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(9)  # which loads whatever it needs
before = faults()
for _ in range({BLOCKS}):
    torch.ones({SIZE} // 4)
held = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(json.dumps([asked, (faults() - before) * resource.getpagesize(), held]))
"""


def asked(what):
    run = [sys.executable, "-c", ASK, what]
    found = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return json.loads(found)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_blocks_are_kept_or_given_back_as_asked():
    kept, pages, held = asked("keep_freed_blocks")
    if not kept:
        pytest.skip("the C library is another one")
    assert pages < BLOCKS / 4 * SIZE  # handed out a few times, and used again
    returned, again, left = asked("return_large_blocks")
    assert returned
    assert again > (BLOCKS - 1) * SIZE  # handed out anew each time
    assert held - left > SIZE / 2
