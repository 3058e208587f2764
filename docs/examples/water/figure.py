#!/usr/bin/env python3
"""Draws the radial distributions of a report as an SVG that follows the reader's
colour scheme: figure.py report.json > rdf.svg
"""
import html
import json
import sys

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 420, 62, 46, 150, 54
FROM, TO, HIGHEST = 0.2, 0.8, 3.5  # nm, and g

# From cold to warm; the second of each pair is for dark pages.
COLOURS = [('#1f5fa8', '#7db4f0'), ('#7a3f98', '#cf9ae8'), ('#c4421a', '#ff9a6b'), ('#8a6a00', '#e5c453')]


def draw(rows):
    """An SVG of each row's rdf, points of distance in nm and value."""
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(r):
        return LEFT + plot_width * (r - FROM) / (TO - FROM)

    def y(g):
        return TOP + plot_height * (1 - g / HIGHEST)

    light = ''.join('.c%d{stroke:%s;fill:%s}' % (i, c, c) for i, (c, _) in enumerate(COLOURS))
    dark = ''.join('.c%d{stroke:%s;fill:%s}' % (i, c, c) for i, (_, c) in enumerate(COLOURS))
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="13">' % (WIDTH, HEIGHT),
        '<title>Radial distribution of oxygen about oxygen in SPC/E water</title>',
        '<style>text{fill:#1d232b}.axis{stroke:#5c6672;fill:none}.grid{stroke:#d8dde3}%s.line{fill:none;stroke-width:1.8}'
        '.name{stroke:none}@media(prefers-color-scheme:dark){text{fill:#e4e8ed}.axis{stroke:#9aa5b1}.grid{stroke:#3a434d}%s.line{fill:none}.name{stroke:none}}</style>' % (light, dark),
        '<text x="%d" y="26" font-size="16">SPC/E water at 1 bar: oxygen about oxygen</text>' % LEFT,
    ]
    for g in range(4):
        out.append('<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%d</text>' % (LEFT, y(g), LEFT + plot_width, LEFT - 9, y(g) + 4, g))
    for tenth in range(2, 9):
        out.append('<path class="axis" d="M%.1f %.1fv6"/><text x="%.1f" y="%.1f" text-anchor="middle">%.1f</text>' % (x(tenth / 10), y(0), x(tenth / 10), y(0) + 22, tenth / 10))
    out.append('<rect class="axis" x="%d" y="%d" width="%d" height="%d"/>' % (LEFT, TOP, plot_width, plot_height))
    out.append('<text x="%.1f" y="%d" text-anchor="middle">distance, nm</text>' % (LEFT + plot_width / 2, HEIGHT - 10))
    out.append('<text transform="translate(18 %.1f) rotate(-90)" text-anchor="middle">g(r)</text>' % (TOP + plot_height / 2))
    for i, row in enumerate(rows):
        colour = 'c%d' % (i % len(COLOURS))
        points = ' '.join('%.1f,%.1f' % (x(r), y(min(g, HIGHEST))) for r, g in row['rdf'] if FROM <= r <= TO)
        out.append('<polyline class="line %s" points="%s"/>' % (colour, points))
        at = TOP + 18 + 24 * i
        out.append('<path class="line %s" d="M%d %dh22"/><text class="name" x="%d" y="%d">%s</text>' % (
            colour, WIDTH - RIGHT + 14, at - 4, WIDTH - RIGHT + 44, at, html.escape('%g K' % row['temperature'])))
    out.append('</svg>')
    return '\n'.join(out) + '\n'


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    with open(sys.argv[1]) as file:
        sys.stdout.write(draw(json.load(file)['temperatures']))
