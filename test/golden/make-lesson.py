#!/usr/bin/env python3
"""Makes lesson.json: what someone who follows the lesson in PyTorch gets from a seed.

    python3 test/golden/make-lesson.py

The networks are small lists with the lesson's layers in the lesson's order; `torch.manual_seed(seed)` comes right
before the network is made, as in a notebook. Dropout is 0 in train mode, whose random values are PyTorch's own.
"""

import json
from pathlib import Path

import torch
from torch import nn

NETWORKS = [
    {"architecture": [8, "M", 16, 16, "M"], "inChannels": 3, "numClasses": 10, "hiddenFeatures": 32, "batchNorm": True},
    {"architecture": [6, 10, "M", 12, "M"], "inChannels": 1, "numClasses": 5, "hiddenFeatures": 24, "batchNorm": False},
]
BATCH, SIDE = 4, 28


class VGG_net(nn.Module):
    def __init__(self, architecture, inChannels, numClasses, hiddenFeatures, batchNorm, dropout):
        super().__init__()
        self.in_channels = inChannels
        self.conv_layers = self.create_conv_layers(architecture, batchNorm)
        channels = [entry for entry in architecture if entry != "M"][-1]
        self.fcs = nn.Sequential(
            nn.Linear(channels * 7 * 7, hiddenFeatures),
            nn.ReLU(),
            nn.Dropout(p=dropout),
            nn.Linear(hiddenFeatures, hiddenFeatures),
            nn.ReLU(),
            nn.Dropout(p=dropout),
            nn.Linear(hiddenFeatures, numClasses),
        )

    def create_conv_layers(self, architecture, batchNorm):
        layers = []
        channels = self.in_channels
        for entry in architecture:
            if entry == "M":
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
                continue
            layers.append(nn.Conv2d(channels, entry, kernel_size=3, stride=1, padding=1))
            if batchNorm:
                layers.append(nn.BatchNorm2d(entry))
            layers.append(nn.ReLU())
            channels = entry
        return nn.Sequential(*layers)

    def forward(self, x):
        x = self.conv_layers(x)
        return self.fcs(x.reshape(x.shape[0], -1))


def numbers(tensor):
    return [float(f"{value:.8g}") for value in tensor.flatten().tolist()]


def main():
    cases = []
    for seed, network in enumerate(NETWORKS):
        torch.manual_seed(seed)
        model = VGG_net(**network, dropout=0.0)
        torch.manual_seed(seed + 100)
        x = torch.randn(BATCH, network["inChannels"], SIDE, SIDE)
        with torch.no_grad():
            case = {"options": {k: v for k, v in network.items() if k != "architecture"}}
            case |= {"architecture": network["architecture"], "seed": seed, "inputSeed": seed + 100, "shape": list(x.shape)}
            case["eval"] = numbers(model.eval()(x))
            model.train()
            case["train"] = [numbers(model(x)), numbers(model(x[:2]))]
            case["buffers"] = {k: numbers(v) for k, v in model.state_dict().items() if "running" in k}
            case["evalAfter"] = numbers(model.eval()(x))
        cases.append(case)
    path = Path(__file__).parent / "lesson.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


main()
