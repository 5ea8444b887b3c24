"""Draws test accuracy over the weights left: the rounds.csv of a lottery (docs/lottery.md), or any file with the columns
net, kept, weights and stop_test_accuracy.

    sparsity_plot.py ROUNDS.CSV > lottery.svg
"""

import csv
import math
import sys

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 360, 60, 20, 50
COLOURS = ("#1f6fb4", "#d1601f", "#6b8e23", "#8a4fa3")


def main():
    rows = list(csv.DictReader(open(sys.argv[1], newline="")))
    nets = {}
    for row in rows:
        left = 100 * int(row["kept"]) / int(row["weights"])
        nets.setdefault(row["net"], []).append((left, 100 * float(row["stop_test_accuracy"])))
    first = next(iter(nets.values()))
    for name in ("reinitialized", "random-mask"):  # controls of tickets begin with the dense net, too
        if name in nets:
            nets[name].insert(0, first[0])
    values = [value for points in nets.values() for _, value in points]
    low, high = math.floor(2 * min(values)) / 2, math.ceil(2 * max(values)) / 2
    least = min(left for points in nets.values() for left, _ in points)

    def x(left):  # logarithmic, from 100 % on the left
        return LEFT + (WIDTH - LEFT - 20) * math.log(100 / left) / math.log(100 / least)

    def y(value):
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
          'font-size="12">')
    print(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>')
    for step in range(5):
        value = low + (high - low) * step / 4
        print(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - 20}" stroke="#ddd"/>'
              f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    end = 0
    for left, _ in first:
        if x(left) >= end:
            print(f'<text x="{x(left):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" font-size="9">{left:.3g}</text>')
            end = x(left) + 26
    print(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 14}" text-anchor="middle">weights left, %</text>')
    print(f'<text x="14" y="{HEIGHT / 2:.0f}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2:.0f})">'
          'test accuracy, %</text>')
    for number, (name, points) in enumerate(nets.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(f"{x(left):.1f},{y(value):.1f}" for left, value in points)
        print(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for left, value in points:
            print(f'<circle cx="{x(left):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>')
        print(f'<text x="{LEFT + 14}" y="{HEIGHT - BOTTOM - 14 - 16 * number}" fill="{colour}">{name}</text>')
    print("</svg>")


if __name__ == "__main__":
    main()
