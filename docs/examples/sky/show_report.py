#!/usr/bin/env python3
"""Prints the hot spots of a report as a table: show_report.py report.json

Exit 1 unless each of the five hottest lies within 0.2 degrees of a catalogued
gamma-ray source.
"""
import json
import sys

with open(sys.argv[1]) as file:
    report = json.load(file)
trials = report['trials']
print('%d trials in %d files; 1%% post-trial threshold: TS %.1f' % (trials['number'], trials['files'], trials['threshold_ts']))
print('%4s %8s %8s %9s  %-10s %s' % ('rank', 'l', 'b', 'TS', 'distance', 'source'))
spots = [s for s in report['spots'] if s['ts'] >= trials['threshold_ts']]
for spot in spots:
    name, where = spot['nearest_source'], '%.2f deg' % spot['separation_deg']
    if spot['match'] == 'extended':
        name += ' (inside its extent)'
    elif spot['match'] != 'source':
        name = 'none in the list; the nearest is ' + name
    print('%4d %8.2f %8.2f %9.1f  %-10s %s' % (spot['rank'], spot['lon'], spot['lat'], spot['ts'], where, name))
near = [spot['match'] == 'source' for spot in spots]
print('%d of %d hot spots above the threshold lie within 0.2 degrees of a catalogued source' % (sum(near), len(near)))
sys.exit(0 if len(near) >= 5 and all(near[:5]) else 1)
