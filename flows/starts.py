"""Where a training begins: at a seed, or at the weights of a trained network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from crevnet.checkpoint import load_model
from crevnet.zoo import Description, describe
from flows.blueprint import check_model, describe_network
from flows.config import RunConfig
from flows.model_config import Model
from flows.networks import (
    checksum,
    days_learned,
    differences,
    frame_facts,
    known_cities,
    model_path,
)
from flows.training_data import TrainingData
from pipeline.context import label
from pipeline.errors import ConfigError, ModelError

OF_THE_TASK = ("base", "interpolated", "levels", "scale", "sees", "recent", "inputs")
OF_THE_START = ("network", "change", *OF_THE_TASK)
"""What shapes a network: a training that starts from one takes all of it from there."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A training's begin.

    Attributes:
        model: What is trained, with all that shapes it.
        description: Of its network.
        network: A trained one to take weights from, if any.
        known: Cities that it has a plane of `city` for; those that are read, if none are said.
        record: What the trained model's file shall say of it.
        inherited: Days that its weights learned before, by `pipeline.context.label` of the city.
    """

    model: Model
    description: Description
    network: nn.Module | None = None
    known: tuple[str, ...] | None = None
    record: dict[str, Any] | None = None
    inherited: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig, model: Model) -> Start:
        """Return where a model's training begins; what needs no data is checked.

        A file may be of any edition and city, as long as frames, history and leads are the run's.

        Raises:
            ConfigError: The model asks for what the run cannot give, or says what its start says.
            ModelError: There is no such file, it is damaged, or of other frames, history or leads.
            ZooError: There is no such network, or it cannot be so.
        """
        if model.start_from is None:
            return cls(model, describe_network(config, model))
        path = model_path(config, model.start_from)
        if said := [name for name in OF_THE_START if name in model.model_fields_set]:
            raise ConfigError(f"start_from: {path} says {said}; leave them out")
        if not path.is_file():
            raise ModelError(f"{path}: no such model to start from; `t4c train` makes it")
        network, task, extra = load_model(path)
        edition = config.chosen_edition()
        if faults := differences(frame_facts(task, extra, config, edition)):
            raise ModelError(f"{path}: learned {'; '.join(faults)}")
        shaped = {name: getattr(task, name) for name in OF_THE_TASK}
        once = extra.get("model")
        named = once if isinstance(once, dict) else {}
        shaped["network"] = str(named.get("network", describe(network)["kind"]))
        shaped["change"] = dict(named.get("change") or {})
        record = {
            "sha256": checksum(config, model.start_from),
            "edition": task.edition,
            "cities": list(task.cities),
        }
        started = model.model_copy(update=shaped)
        check_model(config, started)
        return cls(
            started,
            describe(network),
            network,
            known_cities(extra),
            record,
            days_learned(task, extra),
        )

    def check_days(self, data: TrainingData) -> None:
        """Refuse weights that learned from days which are to be held out or scored on.

        Raises:
            ModelError: They did; names the days.
        """
        for city, store in data.stores.items():
            fresh = {*data.held_out_days[city], *store.days("validation")}
            known = self.inherited.get(label(store.edition, store.city), [])
            if leaked := sorted(fresh & {*known}):
                raise ModelError(
                    f"{self.model.start_from}: learned {leaked} of {city}, which this run holds "
                    "out or scores on; start from another model, or lower held_out"
                )
