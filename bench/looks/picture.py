"""A picture of the frontier: calls per job across, mean delay upwards, both logarithmic; a hand-made SVG."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM = 760, 460, 70, 60


def draw(points: list[tuple[str, float, float]]) -> str:
    """The policies as labelled dots."""
    low_x, high_x, low_y, high_y = 1.5, 200.0, 0.05, 6.0

    def x(calls: float) -> float:
        return LEFT + (WIDTH - LEFT - 30) * math.log(calls / low_x) / math.log(high_x / low_x)

    def y(delay: float) -> float:
        return (HEIGHT - BOTTOM) - (HEIGHT - BOTTOM - 40) * math.log(delay / low_y) / math.log(high_y / low_y)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">image of about 12 s, 40 runs in flight</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">API calls per finished job (log)</text>',
        f'<text x="18" y="{HEIGHT / 2}" transform="rotate(-90 18 {HEIGHT / 2})" text-anchor="middle">mean delay, s (log)</text>',
    ]
    for calls in (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0):
        parts.append(f'<line x1="{x(calls):.0f}" x2="{x(calls):.0f}" y1="40" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{x(calls):.0f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{calls:g}</text>')
    for delay in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 30}" y1="{y(delay):.0f}" y2="{y(delay):.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(delay) + 4:.0f}" text-anchor="end">{delay:g}</text>')
    for name, calls, delay in points:
        ours = name.startswith("Conveyor")
        colour, anchor = ("#0a7a3b", "start") if ours else ("#888", "end" if calls > 20 else "start")
        offset = -10 if anchor == "end" else 10
        parts.append(f'<circle cx="{x(calls):.0f}" cy="{y(delay):.0f}" r="{6 if ours else 4}" fill="{colour}"/>')
        parts.append(
            f'<text x="{x(calls) + offset:.0f}" y="{y(delay) - 6:.0f}" text-anchor="{anchor}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
