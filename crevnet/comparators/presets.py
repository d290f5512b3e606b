"""What CrevNet is measured against, by name.

Sizes are the published ones where there are any: those of PredRNN's family and of SimVP's as in the
toolkit that measures them side by side, FRNN's as released, VPN's as in its paper. The paper does
not say how large its 3D stacks and its U-Nets were.
"""

from __future__ import annotations

from dataclasses import replace

from crevnet.comparators.e3d_lstm import E3DLSTMConfig
from crevnet.comparators.frnn import FRNNConfig
from crevnet.comparators.pred_net import PredNetConfig
from crevnet.comparators.pred_rnn_plus_plus import PredRNNPlusPlusConfig
from crevnet.comparators.simvp import SimVPConfig
from crevnet.comparators.stacked import StackedConfig
from crevnet.comparators.unet import UNetConfig
from crevnet.comparators.unet_recurrent import RecurrentUNetConfig
from crevnet.comparators.unet_rpm import RpmUNetConfig
from crevnet.comparators.vpn import VPNConfig

ComparatorConfig = (
    UNetConfig
    | RecurrentUNetConfig
    | RpmUNetConfig
    | StackedConfig
    | PredRNNPlusPlusConfig
    | E3DLSTMConfig
    | FRNNConfig
    | VPNConfig
    | PredNetConfig
    | SimVPConfig
)

_RECURRENT = RecurrentUNetConfig()
_SMALL_RECURRENT = replace(_RECURRENT, width=16, widest=48, cells=2)
_FLAT = StackedConfig(bias=False)
_DEEP = replace(_FLAT, dims=3, clip=3, kernel=3)  # 27 weights a kernel where the flat ones have 25
_SMALL_FLAT = StackedConfig(cells=3, width=48)
_SMALL_DEEP = replace(_SMALL_FLAT, dims=3, clip=3, kernel=3)
_MNIST_UNET = RecurrentUNetConfig(channels=1, widest=128)
_MNIST_RPM = RpmUNetConfig(channels=1)
_SMALL_MNIST_UNET = replace(_MNIST_UNET, width=24, widest=64, cells=3)
_SMALL_MNIST_RPM = replace(_MNIST_RPM, width=24, widest=96, modules=4, attention="double")
_SMALL_SIMVP = SimVPConfig(width=16, blocks=4, wide=96)

COMPARATORS: dict[str, ComparatorConfig] = {
    # 31 M parameters, as MIE-Lab's of 2019 and the organisers' baseline of 2021, but GroupNorm
    "unet": UNetConfig(),
    # the paper's table 3; their sizes are not known
    "unet_conv_lstm": _RECURRENT,
    "unet_st_lstm": replace(_RECURRENT, cell="st_lstm"),
    # small ones for a CPU
    "unet_small": UNetConfig(width=24, depth=3, widest=96),
    "unet_small_conv_lstm": _SMALL_RECURRENT,
    "unet_small_st_lstm": replace(_SMALL_RECURRENT, cell="st_lstm"),
    # the paper's Moving MNIST comparators (tables 1 and 2)
    "stacked_conv_lstm": _FLAT,
    "stacked_conv_lstm_3d": _DEEP,
    "pred_rnn": replace(_FLAT, cell="st_lstm"),
    "pred_rnn_3d": replace(_DEEP, cell="st_lstm"),
    "unet_stacked_conv_lstm": _MNIST_UNET,
    "unet_stacked_st_lstm": replace(_MNIST_UNET, cell="st_lstm"),
    "unet_rpm_conv_lstm": _MNIST_RPM,
    "unet_rpm_st_lstm": replace(_MNIST_RPM, cell="st_lstm"),
    "pred_rnn_plus_plus": PredRNNPlusPlusConfig(bias=False),
    "e3d_lstm": E3DLSTMConfig(bias=False),
    "frnn": FRNNConfig(),
    "vpn": VPNConfig(),
    # the paper's comparator of car cameras (table 4)
    "pred_net": PredNetConfig(channels=3),
    # what came after it
    "simvp": SimVPConfig(),
    "tau": SimVPConfig(translator="tau"),
    # small ones for a CPU
    "small_stacked_conv_lstm": _SMALL_FLAT,
    "small_stacked_conv_lstm_3d": _SMALL_DEEP,
    "small_pred_rnn": replace(_SMALL_FLAT, cell="st_lstm", width=32),
    "small_pred_rnn_3d": replace(_SMALL_DEEP, cell="st_lstm", width=32),
    "small_unet_stacked_conv_lstm": _SMALL_MNIST_UNET,
    "small_unet_stacked_st_lstm": replace(_SMALL_MNIST_UNET, cell="st_lstm"),
    "small_unet_rpm_conv_lstm": _SMALL_MNIST_RPM,
    "small_unet_rpm_st_lstm": replace(_SMALL_MNIST_RPM, cell="st_lstm"),
    "small_pred_rnn_plus_plus": PredRNNPlusPlusConfig(cells=3, width=24),
    "small_e3d_lstm": E3DLSTMConfig(cells=2, width=24),
    "small_frnn": FRNNConfig(filters=(12, 24), units=(32, 32, 48, 48), kernels=(5, 5, 3, 3)),
    "small_vpn": VPNConfig(width=48, encoder=4, decoder=4),
    "small_pred_net": PredNetConfig(channels=3, widths=(16, 32, 64)),
    "small_simvp": _SMALL_SIMVP,
    "small_tau": replace(_SMALL_SIMVP, translator="tau"),
}
