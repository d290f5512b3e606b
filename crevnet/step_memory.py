"""What a training step of any objective keeps for backward, counted on shapes and not run."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from crevnet.autoencoder import MemoryMode
from crevnet.batch import Batch
from crevnet.correction import Correction
from crevnet.cost import give_fake_weights, kept_for_backward
from crevnet.objectives import Objective, Trainee
from crevnet.task import Task
from crevnet.zoo import Description, from_description


def kept_by_step(
    description: Description,
    task: Task,
    objective: Objective,
    *,
    height: int,
    width: int,
    memory: MemoryMode = "plain",
) -> int:
    """Return the bytes of float32 that a step on one sequence keeps: parameters not counted.

    Every storage counts once, however many operations look at it, the loss's own with them.

    Args:
        description: The network's.
        task: What it learns; its word is not added to anything.
        objective: What is minimised.
        height: Rows of a frame.
        width: Columns.
        memory: As for training.

    Raises:
        ValueError: The network cannot train that way.
        ZooError: It is not the description of a network.
    """
    channels = len(task.channels) or 1
    with torch.device("meta"):
        network = from_description(description)
    with FakeTensorMode():
        give_fake_weights(network)
        trainee = Trainee(Correction(network, task), objective)
        size = (channels, height, width)
        history = torch.zeros(1, task.history, *size, dtype=torch.uint8)
        future = torch.zeros(1, len(task.leads), *size, dtype=torch.uint8)
        return kept_for_backward(trainee, lambda: trainee(Batch(history, future), memory))
