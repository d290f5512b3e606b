"""Training: batches in, a trained network out, and no step lost or done twice on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from crevnet.batch import Batch
from crevnet.devices import end_processes, start_fabric
from crevnet.evaluation import Evaluation
from crevnet.interruption import Signals
from crevnet.learner import Learner
from crevnet.loop import Batches, Loop
from crevnet.objectives import correction_of
from crevnet.settings import TrainingSettings
from crevnet.training_folder import SaveBest, TrainingFolder
from crevnet.training_state import Progress, Table


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What came of a training.

    Attributes:
        progress: Steps, examples, seconds and why it ended.
        last: The last evaluation, if any.
        best: The best one.
        naive: That of the base alone, if there is a base.
    """

    progress: Progress
    last: Evaluation | None
    best: Evaluation | None
    naive: Evaluation | None


def train(
    trainee: Learner,
    batches: Batches,
    held_out: Iterable[Batch] | None,
    settings: TrainingSettings,
    folder: Path,
    *,
    fabric: Fabric | None = None,
    save_best: SaveBest | None = None,
    data: str = "",
) -> TrainingReport:
    """Train until the budget is used up; where the folder holds a state, go on from it.

    The folder gets `state.pt`, `curve.csv` and TensorBoard events, written by the first process
    and read by all. The network is left with its last own weights, not the best or averaged ones.

    Args:
        trainee: What learns: a `Trainee`, or another `Learner`, with weights as they shall begin.
        batches: This process's share.
        held_out: This process's share of windows to score on, read anew for every evaluation; for
            a `Trainee` only.
        settings: How.
        folder: Where; one training each.
        fabric: Started, see `start_fabric`, and the caller's to end; else started and ended here.
        save_best: Called in the first process with the network's weights (averaged ones, where
            there is an average) after every evaluation that was the best so far, and again when a
            training goes on; without held-out windows at the end.
        data: Says what the data are: a state is refused where this differs.

    Raises:
        DivergedError: A loss or a gradient is not finite.
        Interrupted: A signal asked to stop; the state is saved.
        OtherProcessError: Another process could not begin.
        TrainingStateError: The folder's state is damaged, or another training's; the folder is in
            use, or not one that all processes share.
        ValueError: There are no batches; the network has batch norm and there are several
            processes; or there are held-out windows, and the learner is no `Trainee`.
    """
    if not len(batches):
        raise ValueError("no batches to train on")
    if held_out is not None:
        correction_of(trainee)
    own = fabric is None
    fabric = fabric or start_fabric(settings)
    kept = TrainingFolder(folder, trainee, settings, fabric, save_best)
    kept.identify(batches=len(batches), data=data)
    try:
        with Signals() as signals:
            Loop(trainee, batches, held_out, settings, fabric, kept, signals).run()
        fabric.barrier()  # what the first process writes is there when the others go on
    finally:
        kept.close()
        if own:
            end_processes(fabric)
    now = kept.now
    return TrainingReport(now, _read(now.last), _read(now.best), _read(now.naive))


def _read(table: Table | None) -> Evaluation | None:
    return None if table is None else Evaluation.of(table)
