"""AP by KITTI's rules beside a second, literal statement of them, on all of KITTI's label files.

    python bench/kitti_ap.py ../shared/data/kitti_object/label_2_all7481.tar.xz

Detections are drawn at random around the labels. Prints AP of labels said as detections, AP of the
drawn ones, the largest difference between the two statements, and how long each took.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.kitti.average_precision import as_detections, average_precision
from pipeline.kitti.rules import DIFFICULTIES, RULES
from tests.kitti_boxes import random_detections, read_archive
from tests.literal_kitti import literal_ap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, help="Label files, .tar.xz")
    parser.add_argument("--every", type=int, default=1, help="Take every n-th file.")
    asked = parser.parse_args()
    labels = read_archive(asked.archive, asked.every)
    rng = np.random.default_rng(0)
    perfect = as_detections(labels)
    images = [(one, random_detections(one, rng)) for one in labels.values()]
    print(f"{len(images)} label files, {sum(len(found) for _, found in images)} detections drawn")
    worst, spent, literally = 0.0, 0.0, 0.0
    for kind in RULES:
        for level in DIFFICULTIES:
            best = average_precision(
                [(one, perfect[name]) for name, one in labels.items()], kind, level
            )
            start = time.process_time()
            found = average_precision(images, kind, level)
            middle = time.process_time()
            wanted = literal_ap(images, kind, level)
            spent += middle - start
            literally += time.process_time() - middle
            pairs = zip((found.ap11, found.ap40), wanted, strict=True)
            worst = max(worst, *(abs(a - b) for a, b in pairs))
            print(
                f"{kind:10} {level:8} labels {found.wanted:6}: said as detections {best.ap11:.6f} "
                f"and {best.ap40:.6f}; drawn {found.ap11:.6f} and {found.ap40:.6f}"
            )
    print(f"largest difference {worst:.3e}; CPU-seconds {spent:.1f}, literally {literally:.1f}")
    if worst > 1e-9:
        raise SystemExit("they differ")


if __name__ == "__main__":
    main()
