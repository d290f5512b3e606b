"""Tables 1 and 2 of the paper: which network of the zoo each row, or cell, is about."""

from __future__ import annotations

from typing import Literal

Column = Literal["ConvLSTM", "ST-LSTM"]

TABLE_1: dict[str, str] = {
    "ConvLSTM": "stacked_conv_lstm",
    "FRNN": "frnn",
    "VPN": "vpn",
    "PredRNN": "pred_rnn",
    "PredRNN++": "pred_rnn_plus_plus",
    "E3D-LSTM": "e3d_lstm",
    "CrevNet + ConvLSTM": "mnist_conv_lstm_3d",
    "CrevNet + ST-LSTM": "mnist_st_lstm_3d",
}
"""Row of table 1 to name in the zoo, in the paper's order."""

TABLE_2: dict[tuple[str, Column], str] = {
    ("Stacked-RNN", "ConvLSTM"): "stacked_conv_lstm",
    ("Stacked-RNN", "ST-LSTM"): "pred_rnn",
    ("3D Stacked-RNN", "ConvLSTM"): "stacked_conv_lstm_3d",
    ("3D Stacked-RNN", "ST-LSTM"): "pred_rnn_3d",
    ("UNet+StackedRNN", "ConvLSTM"): "unet_stacked_conv_lstm",
    ("UNet+StackedRNN", "ST-LSTM"): "unet_stacked_st_lstm",
    ("UNet+RPM", "ConvLSTM"): "unet_rpm_conv_lstm",
    ("UNet+RPM", "ST-LSTM"): "unet_rpm_st_lstm",
    ("CrevNet w/o 3D", "ConvLSTM"): "mnist_conv_lstm_2d",
    ("CrevNet w/o 3D", "ST-LSTM"): "mnist_st_lstm_2d",
    ("CrevNet + 3D", "ConvLSTM"): "mnist_conv_lstm_3d",
    ("CrevNet + 3D", "ST-LSTM"): "mnist_st_lstm_3d",
}
"""Row and column of table 2, the ablation, to name in the zoo: 12 cells."""

SMALL: dict[str, str] = {
    "stacked_conv_lstm": "small_stacked_conv_lstm",
    "stacked_conv_lstm_3d": "small_stacked_conv_lstm_3d",
    "pred_rnn": "small_pred_rnn",
    "pred_rnn_3d": "small_pred_rnn_3d",
    "unet_stacked_conv_lstm": "small_unet_stacked_conv_lstm",
    "unet_stacked_st_lstm": "small_unet_stacked_st_lstm",
    "unet_rpm_conv_lstm": "small_unet_rpm_conv_lstm",
    "unet_rpm_st_lstm": "small_unet_rpm_st_lstm",
    "pred_rnn_plus_plus": "small_pred_rnn_plus_plus",
    "e3d_lstm": "small_e3d_lstm",
    "frnn": "small_frnn",
    "vpn": "small_vpn",
    "pred_net": "small_pred_net",
    "simvp": "small_simvp",
    "tau": "small_tau",
}
"""Network of the tables' size to its small one for a CPU."""
