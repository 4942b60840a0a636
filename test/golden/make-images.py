"""Makes the test images of test/golden/images and what Pillow and torchvision make of them.

Run with Debian's python3 (Pillow 9.4, torchvision 0.14, numpy):
    /usr/bin/python3 test/golden/make-images.py

expected.json holds, zlib-compressed in base64:
  files    each file's pixels as 8-bit RGB, upright
  resized  8-bit pixels after resize and crop of generated images, each less the pixel before it
  tensors  float32 values after ToTensor and Normalize
  labels   SHA-256 of the class names, a line each
Images made by `pattern` are not stored: the test makes them by the same integer formula.
"""

import base64
import hashlib
import json
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps
from torchvision import transforms
from torchvision.models import VGG16_Weights
from torchvision.transforms import functional as F

FOLDER = Path(__file__).parent / "images"


def pattern(width, height, channels=3, noise=64):
    """A triangle wave each way, other for each channel, plus noise from an integer hash."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")

    def wave(t, period):
        t = t % (2 * period)
        return np.where(t < period, t, 2 * period - t) * 90 // period

    h = ((y * width + x) * channels + c).astype(np.uint64)
    h = (h * 2654435761) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 2246822519) & 0xFFFFFFFF
    h ^= h >> 13
    value = wave(x + 11 * c, 37) + wave(y + 7 * c, 53)
    if noise:
        value = value + (h % noise).astype(np.int64)
    return np.minimum(value, 255).astype(np.uint8)


def pack(array):
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()


def pack_pixels(array):
    """As `pack`, of the difference to the pixel before, which compresses better."""
    channels = 1 if array.ndim == 2 else array.shape[2]
    flat = array.reshape(-1, channels)
    return pack(np.diff(flat, axis=0, prepend=np.zeros((1, channels), np.uint8)))


def rgb(image):
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(array, colour_type):
    """A 16-bit PNG, which Pillow does not write for colours."""
    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(rows, 9))
        + png_chunk(b"IEND", b"")
    )


def without_segment(jpeg, marker):
    """The JPEG without its segments of one marker."""
    out, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        length = struct.unpack(">H", jpeg[at + 2 : at + 4])[0] + 2
        if jpeg[at + 1] != marker:
            out += jpeg[at : at + length]
        at += length
    return out + jpeg[at:]


def make_files():
    W, H = 29, 18
    expected = {}
    colour = Image.fromarray(pattern(W, H))
    smooth = Image.fromarray(pattern(W, H, noise=0))
    grey = Image.fromarray(pattern(W, H, 1)[..., 0])
    alpha = Image.fromarray((np.arange(W * H).reshape(H, W) % 256).astype(np.uint8))

    def add(name, pixels=None):
        if pixels is None:
            pixels = rgb(Image.open(FOLDER / name))
        expected[name] = {"width": pixels.shape[1], "height": pixels.shape[0], "pixels": pack(pixels)}

    def save(name, image, **options):
        image.save(FOLDER / name, **options)
        add(name)

    save("rgb.png", colour)
    save("rgb.webp", colour, lossless=True)
    save("grey.png", grey)
    save("grey-alpha.png", Image.merge("LA", (grey, alpha)))
    save("bilevel.png", grey.convert("1"))
    save("rgba.png", Image.merge("RGBA", (*colour.split(), alpha)))
    save("rgba.webp", Image.merge("RGBA", (*colour.split(), alpha)), lossless=True, exact=True)
    palette = smooth.quantize(16)
    save("palette.png", palette)
    save("palette-4bit-transparent.png", palette, bits=4, transparency=3)
    save("palette.gif", palette)
    save("palette-transparent.gif", palette, transparency=3)
    save("colour-key.png", colour, transparency=tuple(int(v) for v in pattern(W, H)[4, 5]))

    save("baseline.jpg", smooth, quality=90, subsampling=0)
    save("baseline-420.jpg", smooth, quality=90, subsampling=2)
    save("progressive.jpg", smooth, quality=90, progressive=True)
    save("grey.jpg", grey, quality=90)
    save("lossy.webp", smooth, quality=90)
    cmyk = Image.fromarray(pattern(W, H, 4, noise=0), "CMYK")
    save("cmyk.jpg", cmyk, quality=95)
    # Without Adobe's marker decoders still take the inks of a JPEG as inverted, or they do not: both are in use.
    (FOLDER / "cmyk-unmarked.jpg").write_bytes(without_segment((FOLDER / "cmyk.jpg").read_bytes(), 0xEE))
    add("cmyk-unmarked.jpg")
    profile = swapped_profile()
    save("profile-swapped.png", colour, icc_profile=profile)
    save("profile-swapped.jpg", smooth, quality=90, icc_profile=profile)

    # Eight orientations; an extra test checks that they are the same picture.
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"orientation-{orientation}.jpg", smooth, quality=90, exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("orientation-6.png", colour, exif=exif)
    save("orientation-6.webp", colour, lossless=True, exif=exif.tobytes())

    # 16 bits: Pillow clips grey and cannot read colours whole, so the rule itself is the expectation.
    deep = (pattern(W, H).astype(np.uint32) * 251 + np.arange(W)[None, :, None] * 37) % 65536
    eight = np.rint(deep / 257.0).astype(np.uint8)
    (FOLDER / "rgb16.png").write_bytes(png16(deep, 2))
    add("rgb16.png", eight)
    (FOLDER / "grey16.png").write_bytes(png16(deep[..., 0], 0))
    add("grey16.png", np.repeat(eight[..., :1], 3, axis=2))
    deep_alpha = np.concatenate([deep, deep[..., :1] // 3], axis=2)
    (FOLDER / "rgba16.png").write_bytes(png16(deep_alpha, 6))
    add("rgba16.png", eight)

    # Refused files.
    frames = [colour.quantize(16), ImageOps.invert(colour).quantize(16), grey.quantize(16)]
    frames[0].save(FOLDER / "animated.gif", save_all=True, append_images=frames[1:], duration=100)
    colour.save(FOLDER / "animated.png", save_all=True, append_images=[ImageOps.invert(colour)], duration=100)
    colour.save(FOLDER / "animated.webp", save_all=True, append_images=[ImageOps.invert(colour)], lossless=True)
    return expected


def swapped_profile():
    """An sRGB profile whose red and blue primaries are exchanged: used, it would exchange the colours."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    at = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = at[b"rXYZ"], at[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = data[blue + 4 : blue + 12], data[red + 4 : red + 12]
    return bytes(data)


def torchvision_pixels(image, resize, crop):
    if resize is not None:
        image = F.resize(image, resize, transforms.InterpolationMode.BILINEAR)
    if crop is not None:
        image = F.center_crop(image, [crop, crop])
    return image


# name: width, height, noise, mode, resize, crop
RESIZED = {
    "down 640x480, standard": (640, 480, 0, "RGB", 256, 224),
    "down 640x480, noisy": (640, 480, 200, "RGB", 60, 51),
    "odd 37x53 down": (37, 53, 64, "RGB", 24, 19),
    "odd 37x53 up": (37, 53, 64, "RGB", 64, 49),
    "up from 20x30": (20, 30, 64, "RGB", 83, 60),
    "tall 10x500 up": (10, 500, 64, "RGB", 32, 28),
    "wide 500x10 down, whole": (500, 10, 200, "RGB", 4, None),
    "crop only, odd margins": (45, 62, 64, "RGB", None, 40),
    "crop only, margins to an even number": (43, 46, 64, "RGB", None, 40),
    "padded: crop over the size": (23, 31, 64, "RGB", None, 40),
    "padded one way": (23, 60, 64, "RGB", None, 40),
    "resized and padded": (37, 53, 64, "RGB", 20, 33),
    "the same size": (37, 53, 64, "RGB", 37, None),
    "grey 640x480": (640, 480, 200, "L", 60, 51),
    "grey 37x53 up": (37, 53, 64, "L", 64, 49),
    "one pixel": (1, 1, 64, "RGB", 8, 6),
    "one column": (1, 40, 64, "RGB", 3, None),
}


def make_resized():
    expected = {}
    for name, (width, height, noise, mode, resize, crop) in RESIZED.items():
        image = Image.fromarray(pattern(width, height, noise=noise)).convert(mode)
        pixels = np.asarray(torchvision_pixels(image, resize, crop))
        expected[name] = {
            "source": {"width": width, "height": height, "noise": noise},
            "mode": mode,
            "resize": resize,
            "crop": crop,
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "pixels": pack_pixels(pixels),
        }
    return expected


def make_tensors():
    # Every byte in every channel.
    bytes_ = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    bytes_[..., 1] = bytes_[..., 1][::-1]
    bytes_[..., 2] = bytes_[..., 2].T
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    to_tensor = transforms.ToTensor()
    all_bytes = normalize(to_tensor(Image.fromarray(bytes_)))
    small = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(28), to_tensor, normalize])
    whole = small(Image.fromarray(pattern(37, 53)))
    # keras.applications.imagenet_utils, mode 'caffe': BGR, the mean taken off, in float32.
    pixels = np.asarray(torchvision_pixels(Image.fromarray(pattern(37, 53)), 32, 28)).astype(np.float32)
    caffe = pixels[..., ::-1] - np.array([103.939, 116.779, 123.68], dtype=np.float32)
    return {
        "allBytes": pack(all_bytes.numpy()),
        "bytes": pack(bytes_),
        "imagenet": pack(whole.numpy()),
        "caffe": pack(caffe.transpose(2, 0, 1).astype(np.float32)),
    }


def hash_labels():
    names = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def main():
    FOLDER.mkdir(exist_ok=True)
    expected = {"files": make_files(), "resized": make_resized(), "tensors": make_tensors(), "labels": hash_labels()}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    total = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{len(list(FOLDER.iterdir()))} files, {math.ceil(total / 1024)} KiB")


if __name__ == "__main__":
    main()
