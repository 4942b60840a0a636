#!/usr/bin/env python3
"""Makes state-dict.json: the names and shapes of torchvision's eight networks, and their parameter counts.

    python3 test/golden/make-state-dict.py

vgg16 and vgg16_bn are stored whole; of the others, the SHA-256 of the same lines.
"""

import hashlib
import json
from pathlib import Path

import torchvision

NETWORKS = ["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]


def main():
    cases = []
    for name in NETWORKS:
        model = getattr(torchvision.models, name)(init_weights=False)
        lines = [f"{key} {'x'.join(map(str, value.shape))}" for key, value in model.state_dict().items()]
        lines = [line for line in lines if "num_batches_tracked" not in line]
        case = {"name": name, "parameters": sum(p.numel() for p in model.parameters()), "tensors": len(lines)}
        case["sha256"] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        if name.startswith("vgg16"):
            case["lines"] = lines
        cases.append(case)
    path = Path(__file__).parent / "state-dict.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


main()
