"""Networks by name."""

from __future__ import annotations

from dataclasses import replace

from crevnet.config import CrevNetConfig

_MNIST = CrevNetConfig()  # 36 convolutions, 8 RPMs, clips of 3 (paper, section 3.1)
_MNIST_2D = replace(_MNIST, dims=2, clip=1)
_TRAFFIC = replace(_MNIST, channels=3)
_SMALL = CrevNetConfig(blocks=(2, 2), strides=(1, 2), modules=4, attention="double", gate_cap=0.95)

PRESETS: dict[str, CrevNetConfig] = {
    # the paper's Moving MNIST networks (tables 1 and 2)
    "mnist_st_lstm_3d": _MNIST,
    "mnist_conv_lstm_3d": replace(_MNIST, cell="conv_lstm"),
    "mnist_st_lstm_2d": _MNIST_2D,
    "mnist_conv_lstm_2d": replace(_MNIST_2D, cell="conv_lstm"),
    # the authors' released networks
    "released_mnist_3d": replace(_MNIST, cell="released_st_lstm", norm="batch"),
    "released_traffic4cast_2d": CrevNetConfig(
        channels=3,
        static_channels=1,
        dims=2,
        clip=1,
        blocks=(2, 2, 2, 2),
        strides=(1, 2, 2, 2),
        bottleneck=4,
        cell="released_st_lstm",
        attention="deep",
        modules=6,
    ),
    # the paper's layout for Traffic4cast: "the same architecture as Moving MNIST"
    "traffic4cast_3d": _TRAFFIC,
    "traffic4cast_2d": replace(_TRAFFIC, dims=2, clip=2),
    # the paper's layout for car cameras, RGB at 128 x 160; its own is not told
    "kitti_3d": _TRAFFIC,
    "kitti_2d": replace(_TRAFFIC, dims=2, clip=2),
    # small ones for a CPU; the predictor's cost grows with the square of the spatial factor, so the
    # traffic networks keep it at 4
    "small_mnist_2d": replace(_SMALL, dims=2, clip=2, blocks=(2, 2, 2), strides=(1, 2, 2)),
    "small_mnist_3d": replace(_SMALL, blocks=(2, 2, 2), strides=(1, 2, 2)),
    "small_traffic_2d": replace(_SMALL, channels=3, dims=2, clip=2),
    "small_traffic_3d": replace(_SMALL, channels=3),
    # gates that start nearly shut, and an even number of modules: it starts by copying the last
    # frame, which between frames of a camera is much
    "small_kitti_2d": replace(_SMALL, channels=3, dims=2, clip=2, gate_bias=-3.0),
    "small_kitti_3d": replace(_SMALL, channels=3, clip=2, gate_bias=-3.0),
}


def preset(name: str) -> CrevNetConfig:
    """Return a network's config by name.

    Raises:
        KeyError: There is none; lists those there are.
    """
    if name not in PRESETS:
        raise KeyError(f"no network {name!r}; there are {sorted(PRESETS)}")
    return PRESETS[name]
