"""What does a simulated GPU draw? A small landscape that depends on nothing but the prompt and the seed.

Same prompt and seed, same bytes: tests compare pictures by equality. `phase` (0..1) moves the light and the hills, so a
row of phases is an animation. Cost: about 15 ms for 512 px.
"""

from __future__ import annotations

import colorsys
import io
import math
import random
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Colour = tuple[int, int, int]


def draw(prompt: str, seed: int, size: int = 512, phase: float = 0.0) -> Image.Image:
    """Draw the landscape of a prompt and a seed."""
    dice = random.Random(f"{prompt}|{seed}")
    hue = dice.random()
    sky_top, sky_low = _colour(hue, 0.55, 0.35), _colour(hue + 0.12, 0.45, 0.95)
    picture = ImageOps.colorize(Image.linear_gradient("L").resize((size, size)), sky_top, sky_low).convert("RGB")
    _light(picture, dice, phase)
    for layer in range(5):
        _hills(picture, dice, layer, hue, phase)
    _caption(picture, prompt, seed)
    return picture


@lru_cache(maxsize=256)
def png(prompt: str, seed: int, size: int = 512) -> bytes:
    """Give the picture as a PNG."""
    target = io.BytesIO()
    draw(prompt, seed, size).save(target, "PNG", compress_level=3)
    return target.getvalue()


@lru_cache(maxsize=64)
def gif(prompt: str, seed: int, size: int = 256, frames: int = 12) -> bytes:
    """Give the moving picture as an endless GIF."""
    first, *rest = [draw(prompt, seed, size, phase=index / frames) for index in range(frames)]
    target = io.BytesIO()
    first.save(target, "GIF", save_all=True, append_images=rest, duration=90, loop=0)
    return target.getvalue()


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _light(picture: Image.Image, dice: random.Random, phase: float) -> None:
    """Hang a sun or a moon with a glow; it swings with the phase."""
    size = picture.width
    radius = size * dice.uniform(0.06, 0.13)
    x = size * (dice.uniform(0.2, 0.8) + 0.08 * math.sin(phase * math.tau))
    y = size * (dice.uniform(0.18, 0.42) + 0.03 * math.cos(phase * math.tau))
    colour = _colour(dice.uniform(0.03, 0.16), 0.25, 1.0)
    glow = Image.new("L", (size // 4, size // 4), 0)
    box = [(x - 2 * radius) / 4, (y - 2 * radius) / 4, (x + 2 * radius) / 4, (y + 2 * radius) / 4]
    ImageDraw.Draw(glow).ellipse(box, fill=150)
    mask = glow.filter(ImageFilter.GaussianBlur(size / 64)).resize((size, size), Image.Resampling.BILINEAR)
    picture.paste(Image.new("RGB", picture.size, colour), mask=mask)
    ImageDraw.Draw(picture).ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def _hills(picture: Image.Image, dice: random.Random, layer: int, hue: float, phase: float) -> None:
    """Put one ridge in front of the others: nearer ones are darker, larger and move faster."""
    size = picture.width
    base = size * (0.5 + 0.1 * layer)
    waves = [(dice.uniform(0.5, 3.5), dice.uniform(0, math.tau), dice.uniform(0.2, 1.0)) for _ in range(4)]
    shift = phase * math.tau
    points: list[tuple[float, float]] = [(0, size)]
    for x in range(0, size + 4, 4):
        height = sum(a * math.sin(f * math.tau * x / size + p + round(f) * shift) for f, p, a in waves)
        points.append((x, base + height * size * 0.022 * (1 + layer * 0.25)))
    points.append((size, size))
    colour = _colour(hue + 0.45 + 0.02 * layer, 0.35 + 0.08 * layer, 0.62 - 0.11 * layer)
    ImageDraw.Draw(picture).polygon(points, fill=colour)


def _caption(picture: Image.Image, prompt: str, seed: int) -> None:
    """Sign the picture, so that a person sees which job it belongs to."""
    size = picture.width
    text = prompt if len(prompt) <= 52 else prompt[:51] + "…"
    font = ImageFont.load_default(size=max(9, size // 34))
    draw_on = ImageDraw.Draw(picture)
    draw_on.text((size * 0.03, size * 0.92), text, font=font, fill=(255, 255, 255))
    draw_on.text((size * 0.03, size * 0.96), f"simulated, seed {seed}", font=font, fill=(200, 200, 210))
