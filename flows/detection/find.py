"""Find objects in pictures with a trained head, and write them as KITTI wants them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from crevnet.detection.checkpoint import load_head, read_provenance
from crevnet.detection.detector import Choice, Detections, Detector, Seconds
from crevnet.devices import find_device
from flows.detection.config import DetectionConfig
from flows.detection.data import as_clip
from flows.detection.frozen import frozen_network
from flows.detection.train import head_path
from flows.networks import named_faults
from flows.recipe import progress, step
from pipeline.errors import ModelError
from pipeline.kitti.boxes import Size, clipped, scaled
from pipeline.kitti.labels import KittiObject, write_detections, write_labels


@dataclass(frozen=True, slots=True)
class Found:
    """What a head found in all pictures.

    Attributes:
        folder: A file a picture, in KITTI's format.
        boxes: How many in all.
        seconds: Median time from the bytes of four frames to boxes, one picture at a time.
        cpu_seconds: The same of the processor, however busy others keep it.
        device: Where.
        threads: Of the processor.
    """

    folder: Path
    boxes: int
    seconds: float
    cpu_seconds: float
    device: str
    threads: int

    @property
    def fps(self) -> float:
        """Pictures a second."""
        return 1 / self.seconds


def labels_folder(config: DetectionConfig) -> Path:
    """Return where labels are written as they hold for the pictures there are."""
    return config.out / "labels"


def are_labelled(config: DetectionConfig) -> bool:
    """Return whether the pictures to test have labels."""
    return (config.test.root / "label_2").is_dir()


@step
def keep_labels(config: DetectionConfig) -> Path:
    """Write the labels of the pictures to test, cut to what is to be seen of them.

    Raises:
        LabelError: A file is missing or faulty.
        VideoError: A picture is missing or no picture.
    """
    folder, numbers = labels_folder(config), config.test.numbers()
    for number in numbers:
        write_labels(folder / name_of(number), config.test.folder.read_labels(number))
    _leave(folder, numbers)
    return folder


@step
def find_objects(config: DetectionConfig, name: str) -> Found:
    """Write `out/detections/NAME/NNNNNN.txt` for every picture to test; empty where nothing is.

    Raises:
        ModelError: There is no such head or network, or they do not belong together.
        VideoError: A picture is missing or faulty.
    """
    path = head_path(config, name)
    if not path.is_file():
        raise ModelError(f"{path}: no such head; `t4c detect` trains it")
    tell, source = config.tell, config.test.folder
    if tell.threads:
        torch.set_num_threads(tell.threads)
    try:
        device = find_device(tell.device)
    except ValueError as fault:
        raise ModelError(f"tell.device: {fault}") from None
    frozen = frozen_network(config, config.heads[name].inputs)
    with named_faults():
        _, _, extra = read_provenance(path)
        head = load_head(path, frozen)
    learned = extra.get("learned")
    size = learned.get("size") if isinstance(learned, dict) else None
    if size != [*config.size]:  # another size has cars of another size
        raise ModelError(f"{path}: learned on frames of {size}, expected {[*config.size]}")
    choice = Choice(tell.least, tell.overlap, tell.candidates, tell.most)
    detector = Detector(frozen.to(device), head.to(device), choice)
    numbers, folder = config.test.numbers(), config.out / "detections" / name
    taken: list[Seconds] = []
    boxes = 0
    with progress(f"detect {name}", len(numbers)) as tick:
        for number in numbers:
            frames, whole = source.read_frames(number, config.size)
            clip = as_clip(frames)[None].to(device)
            if not taken:
                detector.detect(clip)  # the first is slow for other reasons
            found, seconds = detector.timed(clip)
            taken.append(seconds)
            objects = as_objects(found, config.classes, config.size, whole)
            boxes += len(objects)
            write_detections(folder / name_of(number), objects)
            tick(f"{number:06d}")
    _leave(folder, numbers)
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    wall, cpu = (median(times) for times in zip(*taken, strict=True))
    return Found(folder, boxes, wall, cpu, kind, torch.get_num_threads())


def as_objects(
    found: Detections, classes: tuple[str, ...], size: Size, whole: Size
) -> list[KittiObject]:
    """Return detections in a resized picture as objects of the picture on disk.

    Boxes are rounded to hundredths of a pixel, as KITTI's labels are; one of no area goes.
    """
    boxes = clipped(scaled(found.boxes.double().cpu().numpy(), size, whole), whole).round(2)
    kinds, scores = found.classes.tolist(), found.scores.tolist()
    return [
        KittiObject(classes[kind - 1], (left, top, right, bottom), score=float(score))
        for (left, top, right, bottom), kind, score in zip(
            boxes.tolist(), kinds, scores, strict=True
        )
        if right > left and bottom > top
    ]


def name_of(number: int) -> str:
    """Return the name of a picture's text file."""
    return f"{number:06d}.txt"


def _leave(folder: Path, numbers: Iterable[int]) -> None:
    """Leave the files of these pictures alone in a folder: others are of an earlier run."""
    wanted = {name_of(number) for number in numbers}
    for path in folder.glob("[0-9][0-9][0-9][0-9][0-9][0-9].txt"):
        if path.name not in wanted:
            path.unlink()
