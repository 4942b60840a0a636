#!/usr/bin/python3
"""Trains `glyphs`, a small VGG that reads one printed character, 0-9 or A-Z.

Everything is made from fonts that Debian 12 packages, so the model can be made
again on any machine that has Debian's archive:

    apt-get install python3-torch python3-pil python3-numpy fontconfig
    apt-get install --no-install-recommends $(./train-glyphs.py packages)
    ./train-glyphs.py train         # glyphs.safetensors, 10 minutes on one core
    ./train-glyphs.py samples       # ../examples/images/*.png
    ./train-glyphs.py evaluate      # the result tables in GLYPHS.md
    ./train-glyphs.py expectations  # ../test/golden/glyphs.json

`train` and `evaluate` look at different fonts: see FONTS below.
"""

import argparse
import json
import math
import re
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import nn

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE / "glyphs.safetensors"
CARD = HERE / "GLYPHS.md"
IMAGES = HERE.parent / "examples" / "images"
GOLDEN = HERE.parent / "test" / "golden" / "glyphs.json"

LABELS = list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SEED = 36
SIDE = 32  # the network's input is SIDE x SIDE

CONFIG = {
    "name": "glyphs",
    "architecture": [24, "M", 48, 48, "M", 96, 96, "M", 160, "M"],
    "batchNorm": True,
    "inChannels": 1,
    "numClasses": len(LABELS),
    "hiddenFeatures": 128,
    "poolSize": 2,
    "dropout": 0.2,
    "labels": LABELS,
    "preset": {
        "mode": "L",
        "resize": SIDE,
        "crop": SIDE,
        "scale": 1 / 255,
        "mean": [0.5],
        "std": [0.5],
    },
}

# ---------------------------------------------------------------------- fonts

# Debian package and the licence of the fonts in it. A package is wholly on one
# side: `train` teaches, `valid` is for choices (architecture, schedule), and
# `test` is looked at only to report. Fonts that copy a test font are left out
# of `train` (Carlito, for one, is Lato with other widths; Monoid takes after
# Fira; Roboto Condensed comes with Roboto).
FONTS = {
    "train": """
        fonts-3270 BSD-3-Clause or OFL-1.1
        fonts-adf-accanthis GPL-2+ with font exception
        fonts-adf-baskervald GPL-2+ with font exception
        fonts-adf-berenis GPL-2+ with font exception
        fonts-adf-gillius GPL-2+ with font exception
        fonts-adf-ikarius GPL-2+ with font exception
        fonts-adf-irianis GPL-2+ with font exception
        fonts-adf-libris GPL-2+ with font exception
        fonts-adf-mekanus GPL-2+ with font exception
        fonts-adf-romande GPL-2+ with font exception
        fonts-adf-switzera GPL-2+ with font exception
        fonts-adf-tribun GPL-2+ with font exception
        fonts-adf-universalis GPL-2+ with font exception
        fonts-adf-verana GPL-2+ with font exception
        fonts-agave MIT
        fonts-apropal OFL-1.1
        fonts-arapey OFL-1.1
        fonts-averia-gwf OFL-1.1
        fonts-averia-sans-gwf OFL-1.1
        fonts-averia-serif-gwf OFL-1.1
        fonts-b612 OFL-1.1 and EPL-2.0 and EDL-1.0
        fonts-bebas-neue OFL-1.1
        fonts-breip OFL-1.0
        fonts-bwht OFL-1.1
        fonts-cantarell OFL-1.1
        fonts-cardo OFL-1.1
        fonts-century-catalogue OFL-1.1
        fonts-clear-sans Apache-2.0
        fonts-cmu OFL-1.1
        fonts-comfortaa OFL-1.1
        fonts-compagnon OFL-1.1
        fonts-courier-prime OFL-1.1
        fonts-dejavu-core Bitstream Vera
        fonts-dejavu-extra Bitstream Vera
        fonts-dkg-handwriting OFL-1.1
        fonts-dosis OFL-1.1
        fonts-dotgothic16 OFL-1.1
        fonts-elstob OFL-1.1
        fonts-essays1743 OFL-1.1 or LGPL-2.1
        fonts-eurofurence OFL-1.1
        fonts-fantasque-sans OFL-1.1
        fonts-fanwood MIT
        fonts-freefont-ttf GPL-3+ with font exception
        fonts-gemunu-libre OFL-1.1
        fonts-georgewilliams OFL-1.1 or BSD-3-Clause
        fonts-gfs-artemisia OFL-1.1
        fonts-gfs-didot OFL-1.1
        fonts-gfs-neohellenic OFL-1.1
        fonts-gnutypewriter OFL-1.1
        fonts-go BSD-3-Clause
        fonts-hack MIT and Bitstream Vera
        fonts-humor-sans OFL-1.1
        fonts-junction OFL-1.1
        fonts-junicode OFL-1.1
        fonts-jura OFL-1.1
        fonts-klee OFL-1.1
        fonts-lemonada OFL-1.1
        fonts-league-mono OFL-1.1
        fonts-liberation GPL-2 with font exception
        fonts-lindenhill MIT
        fonts-linuxlibertine OFL-1.1 or GPL-2+ with font exception
        fonts-lmodern GUST Font License
        fonts-lobstertwo OFL-1.1
        fonts-manrope OFL-1.1
        fonts-millimetre OFL-1.1
        fonts-monofur OFL-1.1
        fonts-mononoki OFL-1.1
        fonts-morisawa-bizud-gothic OFL-1.1
        fonts-motoya-l-cedar Apache-2.0
        fonts-motoya-l-maruberi Apache-2.0
        fonts-mplus OFL-1.1
        fonts-nanum OFL-1.1
        fonts-national-park OFL-1.1
        fonts-noto-core OFL-1.1
        fonts-noto-mono OFL-1.1
        fonts-ocr-a public domain
        fonts-ocr-b public domain
        fonts-okolaks OFL-1.1
        fonts-oldstandard OFL-1.1
        fonts-open-sans Apache-2.0
        fonts-opendin OFL-1.1
        fonts-osifont GPL-2 or GPL-3 or LGPL-3, with font exception
        fonts-prociono public domain
        fonts-quattrocento OFL-1.1
        fonts-rocknroll OFL-1.1
        fonts-routed-gothic OFL-1.1
        fonts-rufscript GPL-3 with font exception
        fonts-sil-andika OFL-1.1
        fonts-sil-doulos OFL-1.1
        fonts-sil-galatia OFL-1.1
        fonts-smc-chilanka OFL-1.1
        fonts-smc-manjari OFL-1.1
        fonts-smiley-sans OFL-1.1
        fonts-sora OFL-1.1
        fonts-stix OFL-1.1
        fonts-texgyre GUST Font License
        fonts-tiresias GPL-3+ with font exception
        fonts-tomsontalks OFL-1.1
        fonts-tuffy public domain
        fonts-yusei-magic OFL-1.1
    """,
    "valid": """
        fonts-allerta OFL-1.1
        fonts-anonymous-pro OFL-1.1
        fonts-crosextra-caladea Apache-2.0
        fonts-goudybookletter public domain
        fonts-hermit OFL-1.1
        fonts-karla OFL-1.1
        fonts-karmilla OFL-1.1
        fonts-league-spartan OFL-1.1
        fonts-oxygen OFL-1.1 or GPL-3 with font exception
        fonts-play OFL-1.1
        fonts-sil-gentium OFL-1.1
    """,
    "test": """
        fonts-cabin OFL-1.1
        fonts-comic-neue OFL-1.1
        fonts-ebgaramond OFL-1.1
        fonts-firacode OFL-1.1
        fonts-inconsolata OFL-1.0
        fonts-inter OFL-1.1
        fonts-jetbrains-mono Apache-2.0
        fonts-lato OFL-1.1
        fonts-paratype ParaType Free Font License
        fonts-quicksand OFL-1.1
        fonts-roboto-slab Apache-2.0
        fonts-roboto-unhinted Apache-2.0
        fonts-sil-charis OFL-1.1
        fonts-vollkorn OFL-1.1
        fonts-yanone-kaffeesatz OFL-1.1
        fonts-yrsa-rasa OFL-1.1
    """,
}

# Key caps, ornate initials, symbols, and a font whose capitals look like small letters.
NOT_TEXT = re.compile(r"Keyboard|Keyfont|Initials|Symbol|Nushu|Math|unifur")

# Words of a name that tell a style, not a family: "Clear Sans Thin" and "Clear
# Sans" are one family, and so are "Inter" and "Inter Display".
STYLE = re.compile(
    r" (Thin|Extra|Light|Demi|Medium|Display|Text|Caption|Caps|Smallcaps|Titling|Slanted"
    r"|Unslanted|Prop|Quotation|Dunhill|Half Italic|Condensed|Semi-Condensed|Cond|Cn|Narrow"
    r"|Wide|Variable Width|Minus|No2|No3|Style|Std|Pro|light|classic|50|60|Z|V2)(?= |$)"
)

STYLES_PER_FAMILY = 6  # enough to see light, bold and italic; keeps the pool small


def packages(side):
    """The (package, licence) pairs of one side."""
    return [tuple(line.split(None, 1)) for line in FONTS[side].strip().splitlines()]


def find_fonts(side):
    """{family: [(font file, package)]} of the installed fonts that have all 36 characters."""
    charset = " ".join(f"{ord(c):x}" for c in LABELS)
    listing = subprocess.run(
        ["fc-list", f":charset={charset}", "--format", "%{file}|%{family[0]}\n"],
        capture_output=True, text=True, check=True,
    ).stdout
    family_of = dict(line.split("|") for line in listing.splitlines())

    families = defaultdict(list)
    for package, _ in packages(side):
        query = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True)
        if query.returncode != 0:
            raise SystemExit(f"{package} is not installed; see the top of this file")
        for file in sorted(query.stdout.split("\n")):
            if not file.endswith((".ttf", ".otf", ".ttc")) or file not in family_of:
                continue
            if not NOT_TEXT.search(family_of[file]):
                families[STYLE.sub("", family_of[file])].append((file, package))

    def spread(files):
        """At most STYLES_PER_FAMILY of them, evenly over the sorted list."""
        step = max(1, len(files) / STYLES_PER_FAMILY)
        return [files[int(i * step)] for i in range(min(len(files), STYLES_PER_FAMILY))]

    return {name: spread(files) for name, files in sorted(families.items())}


def sized_font(file, cap_height):
    """The font at the size that makes its capital H `cap_height` pixels tall.

    All characters of a font share this scale. Scaling each to fill the square
    would be easier to learn, but throws away what tells 0 from O: the width.
    """
    probe = ImageFont.truetype(file, 200)
    _, top, _, bottom = probe.getbbox("H")
    return ImageFont.truetype(file, max(4, round(200 * cap_height / (bottom - top))))


# ---------------------------------------------------------- the training data

# Training characters are drawn once, large, and kept in memory. Every batch then
# bends them anew with torch, many at a time, which is what one core can afford.
CANVAS = 80  # side of a stored bitmap
CAP = 44  # height of its capital letters


def draw_for_pool(file, label):
    """A CANVAS x CANVAS bitmap (0 paper, 255 ink), its ink centred, and the ink's extent.

    None if the font has a blank where the character should be.
    """
    cap = CAP
    while True:
        font = sized_font(file, cap)
        left, top, right, bottom = font.getbbox(label)
        width, height = right - left, bottom - top
        if width <= 0 or height <= 0:
            return None
        if max(width, height) <= CANVAS - 2:
            break
        cap *= 0.95 * (CANVAS - 2) / max(width, height)  # very wide letters only
    image = Image.new("L", (CANVAS, CANVAS))
    corner = ((CANVAS - width) // 2 - left, (CANVAS - height) // 2 - top)
    ImageDraw.Draw(image).text(corner, label, font=font, fill=255)
    return np.asarray(image), max(width, height) / CANVAS


def build_pool(side):
    """Bitmaps, labels, extents (longest side of the ink) and sampling weights as tensors."""
    bitmaps, labels, extents, weights = [], [], [], []
    for files in find_fonts(side).values():
        for file, _ in files:
            drawn = [draw_for_pool(file, label) for label in LABELS]
            if any(glyph is None for glyph in drawn):
                continue
            for index, (bitmap, extent) in enumerate(drawn):
                bitmaps.append(bitmap)
                labels.append(index)
                extents.append(extent)
                # A family with six styles should not count six times as much.
                weights.append(1 / math.sqrt(len(files)))
    return (
        torch.from_numpy(np.stack(bitmaps)),
        torch.tensor(labels),
        torch.tensor(extents, dtype=torch.float32),
        torch.tensor(weights),
    )


def uniform(low, high, *shape):
    return low + (high - low) * torch.rand(*shape)


def some(probability, count):
    """A mask that is true for about `probability` of `count` samples."""
    return torch.rand(count) < probability


def vary_stroke(ink):
    """Makes some strokes thicker and some thinner, as a brush, a pen or a bad print would."""
    def dilate(x, size):
        return F.max_pool2d(x, size, stride=1, padding=size // 2)

    for size, probability in ((3, 0.12), (5, 0.08), (7, 0.02)):
        mask = some(probability, len(ink))
        ink[mask] = dilate(ink[mask], size)
    mask = some(0.12, len(ink))
    thin = 1 - dilate(1 - ink[mask], 3)
    # A hairline would vanish; leave it as it is then.
    survives = thin.sum((1, 2, 3)) > 0.45 * ink[mask].sum((1, 2, 3))
    ink[mask] = torch.where(survives[:, None, None, None], thin, ink[mask])
    return ink


def bend(ink, extent):
    """Rotates, shears, scales, shifts and slightly warps; returns SIDE x SIDE ink."""
    n = len(ink)
    angle = torch.deg2rad(torch.where(some(0.1, n), uniform(-20, 20, n), uniform(-12, 12, n)))
    shear = uniform(-0.15, 0.15, n)
    aspect = torch.exp(uniform(-0.08, 0.08, n))
    cap = uniform(0.42, 0.95, n)  # the capital's share of the square
    scale = torch.minimum(cap * CANVAS / CAP, 0.98 / extent)

    # affine_grid wants the way back: from the output square to the bitmap.
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack([
        torch.stack([cos / aspect, sin / aspect + shear], 1),
        torch.stack([-sin * aspect, cos * aspect], 1),
    ], 1) / scale[:, None, None]
    # The ink may touch the border and lose a sliver, not more.
    room = (1 - extent * scale).clamp(min=0) * 0.9 + 0.06
    shift = uniform(-1, 1, n, 2) * room[:, None]
    theta = torch.cat([matrix, -(matrix @ shift[:, :, None])], 2)

    # Sampled at twice the size and averaged: antialiased like a photo made small.
    grid = F.affine_grid(theta, (n, 1, 2 * SIDE, 2 * SIDE), align_corners=False)
    strength = uniform(0, 0.07, n) * some(0.5, n)
    warp = F.interpolate(torch.randn(n, 2, 4, 4), 2 * SIDE, mode="bicubic", align_corners=False)
    grid = grid + (warp * strength[:, None, None, None]).permute(0, 2, 3, 1)
    fine = F.grid_sample(ink, grid, align_corners=False)
    return F.avg_pool2d(fine, 2)


def expose(ink):
    """Turns ink into grey values in 0..1: blur, contrast, polarity, lighting and noise."""
    n = len(ink)

    def per_sample(values):
        return values[:, None, None, None]

    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16)[None, None]
    for _ in range(2):
        amount = per_sample(uniform(0, 1, n) * some(0.5, n))
        ink = torch.lerp(ink, F.conv2d(F.pad(ink, (1, 1, 1, 1), "replicate"), kernel), amount)
    hard = some(0.06, n)  # no antialiasing at all
    ink[hard] = (ink[hard] > 0.45).float()

    contrast = torch.where(some(0.4, n), torch.ones(n), uniform(0.15, 1, n))
    dark = (1 - contrast) * torch.rand(n)
    # Most readers meet dark ink on light paper, but the reverse is as good.
    grey = torch.where(per_sample(some(0.5, n)), ink, 1 - ink)
    grey = per_sample(dark) + per_sample(contrast) * grey

    slope = uniform(-0.25, 0.25, n, 2) * (contrast * some(0.3, n))[:, None]
    ramp = torch.linspace(-1, 1, SIDE)
    light = slope[:, 0, None, None] * ramp[None, :, None] + slope[:, 1, None, None] * ramp
    sigma = uniform(0, 0.15, n) * some(0.5, n) * contrast.clamp(min=0.3)
    grey = grey + light[:, None] + per_sample(sigma) * torch.randn_like(grey)
    return grey.clamp(0, 1)


def normalise(grey):
    return (grey - CONFIG["preset"]["mean"][0]) / CONFIG["preset"]["std"][0]


def training_batch(pool, size):
    bitmaps, labels, extents, weights = pool
    picked = torch.multinomial(weights, size, replacement=True)
    ink = bitmaps[picked][:, None].float() / 255
    return normalise(expose(bend(vary_stroke(ink), extents[picked]))), labels[picked]


# --------------------------------------------------------------- the test data

# Test images take another way than training ones, the user's: Pillow draws a
# square picture of 64 to 200 pixels, and the model's own preprocessing shrinks it.


def draw_picture(file, label, side, cap=0.7, angle=0, shear=0, shift=(0, 0), blur=0,
                 contrast=1, inverted=False, noise=0, rng=None):
    """A `side` x `side` grey picture of one character; lengths are shares of `side`."""
    font = sized_font(file, cap * side)
    left, top, right, bottom = font.getbbox(label)
    longest = max(right - left, bottom - top)
    if longest > 0.92 * side:  # W in a wide font
        font = sized_font(file, cap * side * 0.92 * side / longest)
        left, top, right, bottom = font.getbbox(label)
    image = Image.new("L", (side, side))
    corner = ((side - right - left) / 2, (side - bottom - top) / 2)
    ImageDraw.Draw(image).text(corner, label, font=font, fill=255)

    if angle or shear or any(shift):
        c, cos, sin = side / 2, math.cos(math.radians(angle)), math.sin(math.radians(angle))
        a, b, d, e = cos, sin + shear, -sin, cos
        x, y = c + shift[0] * side, c + shift[1] * side
        back = (a, b, c - a * x - b * y, d, e, c - d * x - e * y)
        image = image.transform((side, side), Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur * side))

    ink = np.asarray(image, dtype=np.float64) / 255
    grey = (ink if inverted else 1 - ink) * contrast + (1 - contrast) / 2
    if noise:
        grey = grey + rng.normal(0, noise, grey.shape)
    return Image.fromarray(np.uint8(np.clip(grey, 0, 1) * 255 + 0.5))


def preprocess(image):
    """The `preset` of CONFIG: shorter side to SIDE, centre crop, normalise."""
    image = image.convert("L")
    width, height = image.size
    short = min(width, height)
    size = (int(SIDE * width / short), int(SIDE * height / short))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - SIDE) / 2), round((size[1] - SIDE) / 2)
    image = image.crop((left, top, left + SIDE, top + SIDE))
    grey = torch.from_numpy(np.asarray(image, dtype=np.float32) * np.float32(1 / 255))
    return normalise(grey)[None]


def picture_set(side, per_class_and_family, seed, clean=False):
    """Tensors of pictures and labels, and the family of each.

    `clean` draws every style once, upright and centred, black on white;
    otherwise each picture is disturbed moderately.
    """
    rng = np.random.default_rng(seed)
    pictures, labels, names = [], [], []
    for name, files in find_fonts(side).items():
        for index, label in enumerate(LABELS):
            for turn in range(len(files) if clean else per_class_and_family):
                file, _ = files[turn % len(files)]
                if clean:
                    picture = draw_picture(file, label, 128)
                else:
                    contrast = 1 if rng.random() < 0.5 else rng.uniform(0.3, 1)
                    picture = draw_picture(
                        file, label,
                        side=int(rng.integers(64, 201)),
                        cap=rng.uniform(0.55, 0.85),
                        angle=rng.uniform(-8, 8),
                        shear=rng.uniform(-0.08, 0.08),
                        shift=tuple(rng.uniform(-0.05, 0.05, 2)),
                        blur=rng.uniform(0, 0.012),
                        contrast=contrast,
                        inverted=rng.random() < 0.5,
                        noise=rng.uniform(0, 0.1) * contrast,
                        rng=rng,
                    )
                pictures.append(preprocess(picture))
                labels.append(index)
                names.append(name)
    return torch.stack(pictures), torch.tensor(labels), names


# -------------------------------------------------------------------- the model


class VGG(nn.Module):
    """VGG with batch normalisation; module names are torchvision's."""

    def __init__(self, config):
        super().__init__()
        layers, channels = [], config["inChannels"]
        for entry in config["architecture"]:
            if entry == "M":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.BatchNorm2d(entry), nn.ReLU(inplace=True)]
                channels = entry
        pool, hidden, drop = config["poolSize"], config["hiddenFeatures"], config["dropout"]
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = nn.Sequential(
            nn.Linear(channels * pool * pool, hidden), nn.ReLU(), nn.Dropout(drop),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(drop),
            nn.Linear(hidden, config["numClasses"]),
        )

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@torch.no_grad()
def predict(model, pictures):
    model.eval()
    return torch.cat([model(chunk) for chunk in pictures.split(512)])


def top_k(logits, labels, k):
    """Which samples have their label among the k highest logits."""
    return (logits.topk(k, 1).indices == labels[:, None]).any(1)


def train(steps, batch=128, peak=3e-3):
    """AdamW, one cosine cycle with a short warm-up, label smoothing, averaged weights.

    Writes the file now and then, so that there is something to try before the end.
    """
    torch.manual_seed(SEED)
    pool = build_pool("train")
    print(f"{len(pool[0])} bitmaps of {len(pool[0]) // len(LABELS)} font files", flush=True)
    valid_x, valid_y, _ = picture_set("valid", 12, seed=SEED + 1)

    model = VGG(CONFIG).to(memory_format=torch.channels_last)
    average = VGG(CONFIG)  # moving average of the weights, steadier than the last step
    average.load_state_dict(model.state_dict())
    # Decay shrinks weight matrices; it has no business with biases and norms.
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0}]
    optimiser = torch.optim.AdamW(groups, lr=peak)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps, pct_start=0.1)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    started, losses = time.time(), []
    for step in range(1, steps + 1):
        x, y = training_batch(pool, batch)
        model.train()
        loss = criterion(model(x.to(memory_format=torch.channels_last)), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())

        decay = min(0.998, step / (step + 10))
        with torch.no_grad():
            for mean, now in zip(average.state_dict().values(), model.state_dict().values()):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - decay)
        if step % 250 == 0 or step == steps:
            write_safetensors(WEIGHTS, average)
            logits = predict(average, valid_x)
            hit = [top_k(logits, valid_y, k).float().mean().item() for k in (1, 3)]
            print(f"step {step}  loss {np.mean(losses[-250:]):.4f}  valid top-1 {hit[0]:.4f}"
                  f"  top-3 {hit[1]:.4f}  {time.time() - started:.0f} s", flush=True)


# ---------------------------------------------------------- the safetensors file

# 8 bytes: length of the header, little endian. The header: JSON, padded with
# spaces so that the data start at a multiple of 8. Then the tensors, no holes.


def write_safetensors(path, model):
    header = {"__metadata__": {"format": "pt", "vggnet": json.dumps(CONFIG)}}
    chunks, offset = [], 0
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue  # only training uses it
        data = tensor.contiguous().numpy().astype("<f2").tobytes()
        header[name] = {
            "dtype": "F16",
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(chunks))


def read_safetensors(path):
    """The model, in F32 arithmetic on the F16 weights, as the library runs it."""
    blob = path.read_bytes()
    start = 8 + int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:start])
    model = VGG(json.loads(header.pop("__metadata__")["vggnet"]))
    state = {}
    for name, entry in header.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        values = np.frombuffer(blob[begin:end], dtype="<f2").astype(np.float32)
        state[name] = torch.from_numpy(values.reshape(entry["shape"]))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return model.eval()


# ------------------------------------------------------------------ what is written


def percent(hits):
    return f"{100 * hits.float().mean().item():.2f}"


def confusions(logits, labels, count):
    """The most frequent (true, read) pairs."""
    best = logits.argmax(1)
    wrong = best != labels
    return Counter(zip(labels[wrong].tolist(), best[wrong].tolist())).most_common(count)


def report(model):
    """The Markdown of the measured results."""
    x, y, names = picture_set("test", 12, seed=SEED + 2)
    logits = predict(model, x)
    first, third = top_k(logits, y, 1), top_k(logits, y, 3)
    clean_x, clean_y, clean_names = picture_set("test", 1, seed=0, clean=True)
    clean = predict(model, clean_x)
    clean_first, clean_third = top_k(clean, clean_y, 1), top_k(clean, clean_y, 3)

    def twins(values):
        """Labels with 0 and O, and 1 and I, taken as one."""
        merged = torch.arange(len(LABELS))
        merged[LABELS.index("O")] = LABELS.index("0")
        merged[LABELS.index("I")] = LABELS.index("1")
        return merged[values]

    def row(title, scores, truth):
        return (f"| {title} | {len(truth)} | {percent(top_k(scores, truth, 1))} |"
                f" {percent(top_k(scores, truth, 3))} |"
                f" {percent(twins(scores.argmax(1)) == twins(truth))} |")

    lines = [
        "| Test set | Images | Top-1 % | Top-3 % | Top-1 %, 0 = O and 1 = I |",
        "| --- | --: | --: | --: | --: |",
        row("Moderate disturbance", logits, y),
        row("Clean", clean, clean_y),
        "",
        f"Images a class in the disturbed set: {len(y) // len(LABELS)}.",
        "",
        "### By class (disturbed set)",
        "",
        "| Class | Top-1 % | Top-3 % | Most often read as, when wrong |",
        "| --- | --: | --: | --- |",
    ]
    best = logits.argmax(1)
    for index, label in enumerate(LABELS):
        mine = y == index
        errors = Counter(LABELS[i] for i in best[mine & ~first].tolist()).most_common(3)
        said = ", ".join(f"{other} ({count})" for other, count in errors) or "-"
        lines.append(f"| {label} | {percent(first[mine])} | {percent(third[mine])} | {said} |")

    lines += ["", "### By held-out family", "",
              "| Family | Package | Licence | Disturbed top-1 % | top-3 % | Clean top-1 % |",
              "| --- | --- | --- | --: | --: | --: |"]
    licence = dict(packages("test"))
    for family, files in find_fonts("test").items():
        mine = torch.tensor([name == family for name in names])
        clean_mine = torch.tensor([name == family for name in clean_names])
        package = files[0][1]
        lines.append(f"| {family} | {package} | {licence[package]} | {percent(first[mine])} |"
                     f" {percent(third[mine])} | {percent(clean_first[clean_mine])} |")

    pairs = ", ".join(f"{LABELS[t]} as {LABELS[r]} ({n})" for (t, r), n in confusions(logits, y, 12))
    lines += ["", f"Most frequent errors of the disturbed set: {pairs}.", ""]
    print("\n".join(lines[:4] + [lines[-2]]))

    for side, title in (("train", "Training fonts"), ("valid", "Validation fonts")):
        fonts, licence = find_fonts(side), dict(packages(side))
        by_package = defaultdict(list)
        for family, files in fonts.items():
            for package in {package for _, package in files}:
                by_package[package].append(family)
        lines += [f"### {title}", "",
                  f"{len(fonts)} families, {sum(map(len, fonts.values()))} font files.", "",
                  "| Package | Families | Licence |", "| --- | --- | --- |"]
        lines += [f"| {package} | {', '.join(by_package[package])} | {licence[package]} |"
                  for package in sorted(by_package)]
        lines.append("")
    return "\n".join(lines)


def update_card(text):
    """Puts the results between the two marks in the card."""
    begin, end = "<!-- results -->", "<!-- end of results -->"
    card = CARD.read_text()
    head, rest = card.split(begin)
    _, tail = rest.split(end)
    CARD.write_text(f"{head}{begin}\n\n{text}\n{end}{tail}")


# file name, character, family, what the file's name must contain, and the picture's options
SAMPLES = [
    ("glyph-A.png", "A", "Lato", "Lato-Light", {"side": 96}),
    ("glyph-7-inverted.png", "7", "JetBrains Mono", "Mono-Bold", {"side": 128, "inverted": True}),
    ("glyph-R-rotated.png", "R", "EB Garamond", "12-Regular", {"side": 160, "angle": 9}),
    ("glyph-K-low-contrast.png", "K", "Inter", "Inter-MediumItalic", {"side": 120, "contrast": 0.3}),
    ("glyph-4-noisy.png", "4", "Roboto Slab", "Slab-Regular", {"side": 64, "noise": 0.1}),
    ("glyph-W.png", "W", "Vollkorn", "Vollkorn-Bold", {"side": 200}),
    ("glyph-G-rotated-inverted.png", "G", "Fira Code", "Code-Bold",
     {"side": 72, "angle": -8, "inverted": True, "contrast": 0.8}),
    ("glyph-E.png", "E", "PT Serif", "PTF55F", {"side": 64, "cap": 0.6, "shift": (0.05, -0.04)}),
]


def write_samples():
    """The example pictures, drawn from fonts of the test side, and a note on them."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    fonts, licence = find_fonts("test"), dict(packages("test"))
    rows = []
    for name, label, family, style, options in SAMPLES:
        file, package = next((f, p) for f, p in fonts[family] if style in f)
        rng = np.random.default_rng(SEED)
        draw_picture(file, label, rng=rng, **options).save(IMAGES / name, optimize=True)
        what = ", ".join(key if value is True else f"{key} {value}" for key, value in options.items())
        rows.append(f"| `{name}` | {label} | {Path(file).stem} | {package} | {licence[package]} | {what} |")
    (IMAGES / "README.md").write_text("\n".join([
        "# Example images",
        "",
        "Characters for the `glyphs` model, drawn by `models/train-glyphs.py samples` from font",
        "families that the model never saw in training. The fonts themselves are not here; the",
        "pictures are part of this project and under its licence.",
        "",
        "| File | Shows | Font | Debian package | Font's licence | Drawn with |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]))


def write_expectations(model):
    """What the library must answer for each example picture."""
    images = []
    for name, label, *_ in SAMPLES:
        with Image.open(IMAGES / name) as image:
            logits = predict(model, preprocess(image)[None])[0]
        odds = torch.softmax(logits, 0)
        top = odds.topk(5).indices.tolist()
        images.append({
            "file": name,
            "label": label,
            "top5": [{"label": LABELS[i], "probability": odds[i].item()} for i in top],
            "logits": logits.tolist(),
        })
        print(f"{name}: {LABELS[top[0]]} ({odds[top[0]]:.3f})")
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    document = {"model": "models/glyphs.safetensors", "folder": "examples/images", "images": images}
    GOLDEN.write_text(json.dumps(document, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description="Trains and describes the glyphs model.")
    parser.add_argument("command", choices=["packages", "train", "evaluate", "samples", "expectations"])
    parser.add_argument("--steps", type=int, default=2000, help="training steps of 128 images")
    options = parser.parse_args()

    # Threads that wait for each other crawl on a busy machine; another number of them
    # also gives slightly other weights.
    torch.set_num_threads(1)
    if options.command == "packages":
        print(" ".join(package for side in FONTS for package, _ in packages(side)))
    elif options.command == "train":
        train(options.steps)
        print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size} bytes")
    elif options.command == "evaluate":
        update_card(report(read_safetensors(WEIGHTS)))
    elif options.command == "samples":
        write_samples()
    elif options.command == "expectations":
        write_expectations(read_safetensors(WEIGHTS))


if __name__ == "__main__":
    main()
