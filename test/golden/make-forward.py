#!/usr/bin/env python3
"""Writes forward.json: what PyTorch's freshly made networks give, for the command `vggnet forward --seed`.

    python3 test/golden/make-forward.py

Needs torch. Each network is the lesson's, with batch norm and all sizes as they are by default, made after
torch.manual_seed(seed); its input is torch.randn after another seed.
"""

import json
import pathlib

import torch
from torch import nn

ARCHITECTURE = [4, "M", 6]
SHAPE = [2, 3, 20, 24]
SEED, INPUT_SEED = 7, 11


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for entry in ARCHITECTURE:
            if entry == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.BatchNorm2d(entry), nn.ReLU()]
            channels = entry
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, 4096), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(4096, 1000),
        )

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def as_torchvision(net):
    """What torchvision's VGG does with its modules once they are made."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.constant_(module.bias, 0)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.constant_(module.bias, 0)


def rounded(tensor):
    return [float(f"{value:.9g}") for value in tensor.flatten().tolist()]


def main():
    torch.manual_seed(INPUT_SEED)
    x = torch.randn(SHAPE)
    cases = []
    for init in ["pytorch", "torchvision"]:
        torch.manual_seed(SEED)
        net = Net()
        if init == "torchvision":
            as_torchvision(net)
        net.eval()
        with torch.no_grad():
            relu = net.features(x)
            logits = net(x)
        cases.append({
            "init": init,
            # Every 50th logit of both images, and half of a row of the last ReLU, all channels, of the second.
            "logits": rounded(logits[:, ::50]),
            "relu2_1": rounded(relu[1, :, 4, ::2]),
        })
    result = {
        "torch": torch.__version__.split("+")[0],
        "architecture": ",".join(map(str, ARCHITECTURE)), "seed": SEED, "shape": SHAPE, "inputSeed": INPUT_SEED,
        "cases": cases,
    }
    path = pathlib.Path(__file__).with_name("forward.json")
    path.write_text(json.dumps(result, separators=(",", ":")).replace("},{", "},\n{") + "\n")


if __name__ == "__main__":
    main()
