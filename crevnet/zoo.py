"""Every network by name: CrevNet's presets and what it is measured against.

A network is described by plain values, `{"kind": ..., "config": {...}}`: enough to build it again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from crevnet.comparators.e3d_lstm import E3DLSTM, E3DLSTMConfig
from crevnet.comparators.frnn import FRNN, FRNNConfig
from crevnet.comparators.pred_net import PredNet, PredNetConfig
from crevnet.comparators.pred_rnn_plus_plus import PredRNNPlusPlus, PredRNNPlusPlusConfig
from crevnet.comparators.presets import COMPARATORS, ComparatorConfig
from crevnet.comparators.simvp import SimVP, SimVPConfig
from crevnet.comparators.stacked import Stacked, StackedConfig
from crevnet.comparators.unet import UNet, UNetConfig
from crevnet.comparators.unet_recurrent import RecurrentUNet, RecurrentUNetConfig
from crevnet.comparators.unet_rpm import RpmUNet, RpmUNetConfig
from crevnet.comparators.vpn import VPN, VPNConfig
from crevnet.config import CrevNetConfig
from crevnet.model import CrevNet
from crevnet.plain import from_plain, to_plain
from crevnet.presets import PRESETS

AnyConfig = CrevNetConfig | ComparatorConfig
AnyNetwork = (
    CrevNet
    | UNet
    | RecurrentUNet
    | RpmUNet
    | Stacked
    | PredRNNPlusPlus
    | E3DLSTM
    | FRNN
    | VPN
    | PredNet
    | SimVP
)
Description = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of networks: what shapes one, and what it is."""

    config: type[AnyConfig]
    network: Any


KINDS: dict[str, Kind] = {
    "crevnet": Kind(CrevNetConfig, CrevNet),
    "unet": Kind(UNetConfig, UNet),
    "unet_recurrent": Kind(RecurrentUNetConfig, RecurrentUNet),
    "unet_rpm": Kind(RpmUNetConfig, RpmUNet),
    "stacked": Kind(StackedConfig, Stacked),
    "pred_rnn_plus_plus": Kind(PredRNNPlusPlusConfig, PredRNNPlusPlus),
    "e3d_lstm": Kind(E3DLSTMConfig, E3DLSTM),
    "frnn": Kind(FRNNConfig, FRNN),
    "vpn": Kind(VPNConfig, VPN),
    "pred_net": Kind(PredNetConfig, PredNet),
    "simvp": Kind(SimVPConfig, SimVP),
}
ZOO: dict[str, AnyConfig] = {**PRESETS, **COMPARATORS}
_SEES_CLIPS = CrevNetConfig | StackedConfig | E3DLSTMConfig


class ZooError(ValueError):
    """A network that is not known, or cannot be; says what there is."""


def configure(
    network: str | Description,
    *,
    channels: int | None = None,
    history: int | None = None,
    horizon: int | None = None,
    static_channels: int | None = None,
    **overrides: Any,
) -> Description:
    """Return the description of a network made to fit what it will see and say.

    Args:
        network: A name of `ZOO`, or a description.
        channels: Channels of a frame; as the preset has it, if not given; so the others.
        history: Frames it will see.
        horizon: Frames it will be asked for.
        static_channels: Planes of a map beside the frames.
        overrides: Other values of its config, by name.

    Raises:
        ZooError: There is no such name, kind or key; or no such network can be.
    """
    kind, config = _read(network)
    known = {field.name for field in fields(config)}
    fit = {"channels": channels, "static_channels": static_channels}
    fit |= {"history": history, "horizon": horizon}
    wanted = {key: value for key, value in fit.items() if value is not None and key in known}
    fitted = _from(kind, to_plain(config) | wanted | overrides)
    if isinstance(fitted, _SEES_CLIPS) and history is not None and fitted.clip > history:
        raise ZooError(f"clips of {fitted.clip} frames, but a history of {history}")
    if min(n for n in (history, horizon, 1) if n is not None) < 1:
        raise ZooError(f"a history of {history} and a horizon of {horizon}, expected at least 1")
    return {"kind": kind, "config": to_plain(fitted)}


def build(
    network: str | Description,
    *,
    channels: int | None = None,
    history: int | None = None,
    horizon: int | None = None,
    static_channels: int | None = None,
    **overrides: Any,
) -> AnyNetwork:
    """Return a network, its weights drawn at random; see `configure`.

    Raises:
        ZooError: There is no such name, kind or key; or no such network can be.
    """
    return from_description(
        configure(
            network,
            channels=channels,
            history=history,
            horizon=horizon,
            static_channels=static_channels,
            **overrides,
        )
    )


def describe(network: nn.Module) -> Description:
    """Return what a network is, in plain values.

    Raises:
        ZooError: It is of no known kind.
    """
    for name, kind in KINDS.items():
        if type(network) is kind.network:
            return {"kind": name, "config": to_plain(network.config)}
    raise ZooError(f"a {type(network).__name__} is of no kind; there are {sorted(KINDS)}")


def from_description(description: Description) -> AnyNetwork:
    """Return the network of a description, its weights drawn at random.

    Raises:
        ZooError: It is not the description of a network.
    """
    kind, config = _read(description)
    network: AnyNetwork = KINDS[kind].network(config)
    return network


def config_of(description: str | Description) -> AnyConfig:
    """Return the config of a name or description, without building anything.

    Raises:
        ZooError: There is no such name, kind or key; or no such network can be.
    """
    return _read(description)[1]


def layers(config: AnyConfig) -> int:
    """Return a number that a network's tensors are never fewer than, without building it."""
    if isinstance(config, CrevNetConfig):
        return sum(config.blocks) + config.modules
    return config.layers


def _read(network: str | Description) -> tuple[str, AnyConfig]:
    if isinstance(network, str):
        if network not in ZOO:
            raise ZooError(f"no network {network!r}; there are {sorted(ZOO)}")
        config = ZOO[network]
        return next(name for name, kind in KINDS.items() if kind.config is type(config)), config
    if not isinstance(network, dict) or set(network) != {"kind", "config"}:
        found = sorted(map(str, network)) if isinstance(network, dict) else type(network).__name__
        raise ZooError(f"a description of {found}, expected ['config', 'kind']")
    name = network["kind"]
    if not isinstance(name, str) or name not in KINDS:
        raise ZooError(f"no kind {str(name)[:80]!r} of network; there are {sorted(KINDS)}")
    return name, _from(name, network["config"])


def _from(kind: str, value: Any) -> AnyConfig:
    try:
        return from_plain(KINDS[kind].config, value)
    except (ValueError, TypeError, OverflowError) as fault:
        raise ZooError(str(fault)) from None
