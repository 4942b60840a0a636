"""Makes random.json: what PyTorch draws from given seeds, and what it initialises small networks to.

    python3 test/golden/make-random.py
"""

import json
import math
import pathlib

import torch
from torch import nn

SEEDS = [0, 42, 2**32 - 1]
SIZES = [1, 2, 5, 15, 16, 17, 31, 100, 1000]

# Of tensors of more values than this, only the first and the last are stored, with the sum of all.
WHOLE = 40


def numbers(values):
    return [float(f"{value:.9g}") for value in values]


def sample(tensor):
    flat = tensor.detach().flatten()
    if flat.numel() <= WHOLE:
        return {"size": flat.numel(), "first": numbers(flat.tolist())}
    return {
        "size": flat.numel(),
        "first": numbers(flat[:20].tolist()),
        "last": numbers(flat[-20:].tolist()),
        "sum": float(f"{flat.double().sum().item():.9g}"),
    }


def distributions():
    cases = []
    for seed in SEEDS:
        for size in SIZES:
            torch.manual_seed(seed)
            cases.append({"kind": "normal", "seed": seed, "mean": 0, "std": 1, **sample(torch.randn(size))})
            torch.manual_seed(seed)
            tensor = torch.empty(size).normal_(0.5, 0.01)
            cases.append({"kind": "normal", "seed": seed, "mean": 0.5, "std": 0.01, **sample(tensor)})
            torch.manual_seed(seed)
            tensor = torch.empty(size).uniform_(-0.3, 0.7)
            cases.append({"kind": "uniform", "seed": seed, "from": -0.3, "to": 0.7, **sample(tensor)})
    return cases


def sequence():
    """One generator, many calls: odd small tensors leave a normal behind for the next small one."""
    torch.manual_seed(7)
    calls = []
    for kind, size in [
        ("normal", 3), ("uniform", 5), ("normal", 33), ("normal", 4), ("uniform", 700),
        ("normal", 7), ("normal", 1300), ("uniform", 1), ("normal", 1), ("normal", 16),
    ]:
        tensor = torch.empty(size)
        tensor = tensor.normal_(1, 2) if kind == "normal" else tensor.uniform_(2, 3)
        calls.append({"kind": kind, **sample(tensor)})
    return {"seed": 7, "mean": 1, "std": 2, "from": 2, "to": 3, "calls": calls}


class Net(nn.Module):
    """The lesson's network, with every size free."""

    def __init__(self, architecture, batch_norm, in_channels, hidden, classes, pool):
        super().__init__()
        layers, channels = [], in_channels
        for entry in architecture:
            if entry == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers.append(nn.Conv2d(channels, entry, kernel_size=3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(entry))
            layers.append(nn.ReLU())
            channels = entry
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * pool * pool, hidden), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(hidden, classes),
        )


def as_torchvision(net):
    """What torchvision's VGG does with its modules once they are made."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.constant_(module.bias, 0)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1)
            nn.init.constant_(module.bias, 0)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.constant_(module.bias, 0)


def networks():
    cases = []
    # The second is so small that its weights are drawn one by one.
    for architecture, sizes in [
        ([8, "M", 16, "M"], {"inChannels": 3, "hiddenFeatures": 20, "numClasses": 7, "poolSize": 2}),
        ([1, "M", 5], {"inChannels": 1, "hiddenFeatures": 3, "numClasses": 3, "poolSize": 1}),
    ]:
        for batch_norm in [False, True]:
            for init in ["pytorch", "torchvision"]:
                torch.manual_seed(3)
                net = Net(architecture, batch_norm, sizes["inChannels"], sizes["hiddenFeatures"],
                          sizes["numClasses"], sizes["poolSize"])
                if init == "torchvision":
                    as_torchvision(net)
                cases.append({
                    "init": init, "seed": 3, "architecture": architecture, "batchNorm": batch_norm, **sizes,
                    "parameters": {name: sample(value) for name, value in net.state_dict().items()
                                   if not name.endswith("num_batches_tracked")},
                })
    return cases


def integers():
    """The generator's own numbers: a float32 tensor of integers below 2^24 shows their low bits."""
    torch.manual_seed(5489)
    return {"seed": 5489, "low24": [int(value) for value in (torch.rand(1300) * 2**24).tolist()][-20:], "count": 1300}


def main():
    result = {
        "torch": torch.__version__.split("+")[0],
        "integers": integers(),
        "distributions": distributions(),
        "sequence": sequence(),
        "networks": networks(),
    }
    assert math.isfinite(sum(case["first"][0] for case in result["distributions"]))
    path = pathlib.Path(__file__).with_name("random.json")
    path.write_text(json.dumps(result, separators=(",", ":")).replace("},{", "},\n{") + "\n")


main()
