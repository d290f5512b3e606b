"""The comparators at a size at which their equations can be worked out slowly."""

from __future__ import annotations

from dataclasses import replace

import torch

from crevnet.comparators.e3d_lstm import E3DLSTMConfig
from crevnet.comparators.frnn import FRNNConfig
from crevnet.comparators.pred_net import PredNetConfig
from crevnet.comparators.pred_rnn_plus_plus import PredRNNPlusPlusConfig
from crevnet.comparators.simvp import SimVPConfig
from crevnet.comparators.stacked import StackedConfig
from crevnet.comparators.unet_rpm import RpmUNetConfig
from crevnet.comparators.vpn import VPNConfig
from crevnet.plain import to_plain
from crevnet.zoo import KINDS, from_description

STACK = StackedConfig(channels=2, patch=2, cells=2, width=5, kernel=3)
DEEP = replace(STACK, dims=3, clip=3)
RPM = RpmUNetConfig(channels=2, width=4, depth=2, widest=6, modules=3)
EIDETIC = E3DLSTMConfig(channels=2, patch=2, cells=2, width=5, kernel=3)
SIM = SimVPConfig(
    channels=2, history=4, stages=3, width=6, blocks=3, wide=7, widening=2, kernel=9, dilation=3
)
CONFIGS = {
    "conv_lstm": STACK,
    "conv_lstm_clip": replace(STACK, clip=2, bias=False, static_channels=1),
    "conv_lstm_3d": replace(DEEP, static_channels=1),
    "st_lstm": replace(STACK, cell="st_lstm", static_channels=1, patch=4),
    "st_lstm_3d": replace(DEEP, cell="st_lstm", bias=False),
    "pred_rnn_plus_plus": PredRNNPlusPlusConfig(
        channels=2, static_channels=1, patch=2, cells=3, width=5, kernel=3
    ),
    "e3d_lstm": EIDETIC,
    "e3d_lstm_released": replace(EIDETIC, bent_memory=True, clip=3, static_channels=1),
    "frnn": FRNNConfig(
        channels=2, static_channels=1, filters=(3, 4), units=(5, 6, 7), kernels=(5, 3, 3)
    ),
    "vpn": VPNConfig(channels=2, static_channels=1, width=6, encoder=3, decoder=2),
    "pred_net": PredNetConfig(channels=2, static_channels=1, widths=(4, 5)),
    "pred_net_unbounded": PredNetConfig(channels=2, widths=(6,), highest=None),
    "rpm_conv_lstm": RPM,
    "rpm_st_lstm": replace(RPM, cell="st_lstm", attention="double", static_channels=1),
    "simvp": SIM,
    "simvp_group": replace(SIM, norm="group", static_channels=1),
    "tau_group": replace(SIM, norm="group", translator="tau", wide=16),
}


def build_tiny(name, dtype=torch.float64):
    torch.manual_seed(0)
    config = CONFIGS[name]
    kind = next(key for key, kind in KINDS.items() if kind.config is type(config))
    network = from_description({"kind": kind, "config": to_plain(config)}).to(dtype)
    with torch.no_grad():  # what starts at nothing or nearly would hide what it does
        for key, parameter in network.named_parameters():
            if key.endswith(("peephole", "first", "scale", "bias_down")):
                parameter.uniform_(-0.5, 0.5)
    return network
