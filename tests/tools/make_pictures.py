#!/usr/bin/env python3
"""tests/tools/make_pictures.py -- makes the sample files that the tools' readers are tested with.

    python3 tests/tools/make_pictures.py        (from the source root; Pillow, NumPy, safetensors)

tests/fuzz/corpora/{png,jpeg}/NAME      a small picture of each kind
tests/tools/pictures/NAME.ppm           what it is in RGB, as Pillow reads it
tests/fuzz/corpora/{npy,latents}/NAME   latents as other programs write them, good and bad

Pillow cuts 16 bits down to 8 and clips grey ones; here they are rounded, round(v / 257), and that
is what the .ppm holds.
"""
import io
import json
import pathlib
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save

W, H = 19, 13
CORPORA = pathlib.Path("tests/fuzz/corpora")
EXPECTED = pathlib.Path("tests/tools/pictures")


def scene():
    """Ramps with one hard edge, [H][W][3]."""
    y, x = np.mgrid[0:H, 0:W].astype(np.float64)
    rgb = np.stack([x * 255 / (W - 1), y * 255 / (H - 1), 255 - x * 6 - y * 9], axis=2)
    rgb[4:9, 6:12] = (250, 40, 10)
    return rgb.round().astype(np.uint8)


def expect(name, rgb):
    rgb = np.ascontiguousarray(rgb, dtype=np.uint8)
    head = f"P6\n{rgb.shape[1]} {rgb.shape[0]}\n255\n".encode()
    (EXPECTED / (name + ".ppm")).write_bytes(head + rgb.tobytes())


def as_pillow_reads(data, background=(255, 255, 255)):
    im = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if not im.has_transparency_data:
        return np.asarray(im.convert("RGB"))
    below = Image.new("RGB", im.size, background)
    above = im.convert("RGBA")
    below.paste(above, mask=above.getchannel("A"))
    return np.asarray(below)


# ---- where an orientation is found ----

def exif_of(how):
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x112, 3, 1, how, 0, 0)


def exif_without_orientation():
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x128, 3, 1, 2, 0, 0)


def xmp_of(how):
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{how}"/>'.encode()


def xmp_element_of(how):
    return (b"<rdf:Description><tiff:Orientation>%d</tiff:Orientation></rdf:Description>" % how)


def profile_of(how):
    data = b"Exif\0\0" + exif_of(how)
    lines = [data.hex()[i:i + 72] for i in range(0, 2 * len(data), 72)]
    return f"\nexif\n{len(data):8}\n".encode() + "\n".join(lines).encode() + b"\n"


def turned_pngs(rgb):
    """Name: a picture whose orientation stands in one of the places of a PNG."""
    raw, xmp = b"Raw profile type exif\0", b"XML:com.adobe.xmp\0"
    extras = {
        "turned_text": chunk(b"tEXt", raw + profile_of(3).upper()),
        "turned_ztext": chunk(b"zTXt", raw + b"\0" + zlib.compress(profile_of(5))),
        "turned_itext": chunk(b"iTXt", raw + b"\0\0en\0\0" + profile_of(6)),
        "turned_xmp": chunk(b"iTXt", xmp + b"\0\0\0\0" + xmp_of(7)),
        "turned_xmp_deflated": chunk(b"iTXt", xmp + b"\1\0\0\0" + zlib.compress(xmp_element_of(8))),
        "turned_exif_xmp": chunk(b"iTXt", xmp + b"\0\0\0\0" + xmp_of(7)) +
                           chunk(b"eXIf", exif_of(2)),
        "turned_by_xmp": chunk(b"eXIf", exif_without_orientation()) +
                         chunk(b"iTXt", xmp + b"\0\0\0\0" + xmp_of(4)),
        "turned_exif_text": chunk(b"tEXt", raw + profile_of(3)) + chunk(b"eXIf", exif_of(8)),
    }
    return {name: png(rgb, RGB, 8, extra=extra) for name, extra in extras.items()}


def with_app1(data, *bodies):
    """A JPEG with segments behind its JFIF one."""
    at = 4 + struct.unpack(">H", data[4:6])[0]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(b) + 2) + b for b in bodies)
    return data[:at] + segments + data[at:]


def turned_jpegs(data):
    exif, xmp = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
    return {
        "turned_xmp": with_app1(data, xmp + xmp_of(6)),
        "turned_xmp_element": with_app1(data, b"other\0", xmp + xmp_element_of(5)),
        "turned_exif_xmp": with_app1(data, xmp + xmp_of(3), exif + exif_of(8)),
        "turned_by_xmp": with_app1(data, exif + exif_without_orientation(), xmp + xmp_of(7)),
        "turned_twice_xmp": with_app1(data, xmp + xmp_of(3), xmp + xmp_of(8)),
        "turned_exif_0": with_app1(data, exif + exif_of(0), xmp + xmp_of(3)),
    }


# ---- PNG, written by hand: Pillow writes neither interlaced nor most 16-bit ones ----

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def scanlines(samples, depth):
    rows = b""
    for row in samples:
        flat = row.reshape(-1)
        if depth == 16:
            rows += b"\0" + flat.astype(">u2").tobytes()
        elif depth == 8:
            rows += b"\0" + flat.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(v), f"0{depth}b") for v in flat)
            bits += "0" * (-len(bits) % 8)
            rows += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return rows


def png(samples, kind, depth, interlaced=False, extra=b""):
    h, w = samples.shape[:2]
    if interlaced:
        parts = [samples[y0::dy, x0::dx] for x0, y0, dx, dy in ADAM7]
        raw = b"".join(scanlines(p, depth) for p in parts if p.size)
    else:
        raw = scanlines(samples, depth)
    ihdr = struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + extra +
            chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def make_pngs():
    rgb = scene()
    grey = rgb[:, :, 0:1]
    alpha = (rgb[:, :, 1:2] // 2 + 60).astype(np.uint8)
    wide = rgb.astype(np.uint32) * 257 + np.arange(W, dtype=np.uint32)[None, :, None] * 13
    wide = np.minimum(wide, 65535)
    index = (np.arange(W * H).reshape(H, W, 1) * 7 % 16).astype(np.uint8)
    plte = chunk(b"PLTE", bytes((i * 37 + c * 91) % 256 for i in range(16) for c in range(3)))
    orientation = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, 6, 0, 0)

    files = {
        "grey1": png(grey >> 7, GREY, 1),
        "grey2": png(grey >> 6, GREY, 2, True),
        "grey4": png(grey >> 4, GREY, 4),
        "grey8": png(grey, GREY, 8),
        "grey8_trns": png(grey, GREY, 8, extra=chunk(b"tRNS", struct.pack(">H", int(grey[3, 5, 0])))),
        "grey_alpha8": png(np.concatenate([grey, alpha], 2), GREY_ALPHA, 8),
        "rgb8": png(rgb, RGB, 8),
        "rgb8_gamma": png(rgb, RGB, 8, extra=chunk(b"gAMA", struct.pack(">I", 100000))),
        "rgb8_interlaced": png(rgb, RGB, 8, True),
        "rgb8_trns": png(rgb, RGB, 8, extra=chunk(b"tRNS", struct.pack(">3H", 250, 40, 10))),
        "rgb8_turned": png(rgb, RGB, 8, extra=chunk(b"eXIf", orientation)),
        "rgba8": png(np.concatenate([rgb, alpha], 2), RGBA, 8),
        "rgba8_interlaced": png(np.concatenate([rgb, alpha], 2), RGBA, 8, True),
        "palette4": png(index, PALETTE, 4, extra=plte),
        "palette8_trns": png(index, PALETTE, 8, True,
                             plte + chunk(b"tRNS", bytes(range(0, 160, 10)))),
        **turned_pngs(rgb),
    }
    for name, data in files.items():
        (CORPORA / "png" / f"{name}.png").write_bytes(data)
        expect(f"{name}.png", as_pillow_reads(data))

    rounded = ((wide + 128) // 257).astype(np.uint8)
    for name, samples, kind in [("grey16", wide[:, :, 0:1], GREY), ("rgb16", wide, RGB)]:
        data = png(samples, kind, 16)
        (CORPORA / "png" / f"{name}.png").write_bytes(data)
        expect(f"{name}.png", np.repeat(rounded[:, :, 0:1], 3, 2) if kind == GREY else rounded)


# ---- JPEG ----

def jpeg(im, **options):
    out = io.BytesIO()
    im.save(out, "JPEG", **options)
    return out.getvalue()


def make_jpegs():
    im = Image.fromarray(scene())
    ink = np.concatenate([255 - scene(), scene()[:, :, 0:1] // 2], 2)
    files = {
        "rgb444": jpeg(im, quality=90, subsampling=0),
        "rgb422": jpeg(im, quality=90, subsampling=1),
        "rgb420": jpeg(im, quality=75, subsampling=2),
        "progressive": jpeg(im, quality=80, progressive=True),
        "restarts": jpeg(im, quality=80, restart_marker_blocks=1),
        "grey": jpeg(im.convert("L"), quality=80),
        "cmyk": jpeg(Image.frombytes("CMYK", (W, H), ink.tobytes()), quality=90),
    }
    for how in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = how
        files[f"turned{how}"] = jpeg(im, quality=80, exif=exif)
    # Stray bytes between two segments: common in the wild, and harmless.
    files.update(turned_jpegs(files["rgb444"]))
    stray = files["rgb420"]
    at = stray.index(b"\xff\xdb")
    files["stray"] = stray[:at] + b"\0\0\0" + stray[at:]
    for name, data in files.items():
        (CORPORA / "jpeg" / f"{name}.jpg").write_bytes(data)
        expect(f"{name}.jpg", as_pillow_reads(data))


# ---- latents ----

def npy(array, version=(1, 0)):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    return out.getvalue()


def make_latents():
    v = (np.arange(4 * 2 * 3, dtype=np.float32).reshape(1, 4, 2, 3) - 12) / 8
    arrays = {
        "f4_v1": npy(v), "f4_v2": npy(v, (2, 0)), "f4_v3": npy(v, (3, 0)),
        "f2": npy(v.astype(np.float16)), "three_dims": npy(v[0]),
        "fortran": npy(np.asfortranarray(v)), "big_endian": npy(v.astype(">f4")),
        "f8": npy(v.astype(np.float64)), "two": npy(np.concatenate([v, v])),
        "one_dim": npy(v.reshape(-1)), "empty": npy(v[:, :, :0]),
        "nan": npy(np.where(v == 0, np.nan, v)),
    }
    for name, data in arrays.items():
        (CORPORA / "npy" / f"{name}.npy").write_bytes(data)

    marker = np.zeros(0, np.float32)
    files = {
        "f32.safetensors": save({"latents": v}),
        "f16.safetensors": save({"anything": v.astype(np.float16)}),
        "bf16.safetensors": bf16_file(v),
        "two_tensors.safetensors": save({"a": v, "b": v}),
        "comfy.latent": save({"latent_tensor": v, "latent_format_version_0": marker}),
        "comfy_old.latent": save({"latent_tensor": v}),
        "torch.pt": torch_file(v),
    }
    for name, data in files.items():
        (CORPORA / "latents" / name).write_bytes(data)


def bf16_file(v):
    data = (v.view(np.uint32) >> 16).astype("<u2").tobytes()
    head = json.dumps({"__metadata__": {"format": "pt"},
                       "latents": {"dtype": "BF16", "shape": list(v.shape),
                                   "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(head)) + head + data


def torch_file(v):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr(zipfile.ZipInfo("latents/data.pkl"), b"\x80\x02.")
        z.writestr(zipfile.ZipInfo("latents/data/0"), v.tobytes())
    return out.getvalue()


if __name__ == "__main__":
    for directory in [EXPECTED] + [CORPORA / d for d in ("png", "jpeg", "npy", "latents")]:
        directory.mkdir(parents=True, exist_ok=True)
    make_pngs()
    make_jpegs()
    make_latents()
