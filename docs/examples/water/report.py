#!/usr/bin/env python3
"""Sets the water boxes of a dataset beside what is published.

    report.py DIR

DIR/outputs.json is what `floe outputs DATASET -o json` says, DIR/tasks/*.json what
`floe tasks DATASET.JOB.TASK -o json` says of each task. Prints a table and writes
DIR/report.json. Exit 1 if something does not agree.
"""
import glob
import hashlib
import json
import os
import sys
import urllib.request

# Density of the liquid at saturation in kg/m³ and its error, by temperature in K:
# NIST Standard Reference Simulation Website, "SAT-TMMC: Liquid-Vapor coexistence
# properties - SPC/E Water (LRC)". Between the vapour pressure, below 0.2 bar, and
# the 1 bar of the boxes the density changes by 0.04 kg/m³.
DENSITY = {300: (998.1, 2.93), 325: (983.0, 1.08), 350: (964.8, 1.28), 375: (943.8, 1.18)}
# First peak of the O-O radial distribution of SPC/E at 298 K in nm: Mark and Nilsson,
# J. Phys. Chem. A 105 (2001) 9954, with half a unit of the last digit and the width
# of our bins. Real water at 295 K has 0.280(1) nm, of height 2.57(5): Skinner et al.,
# J. Chem. Phys. 138 (2013) 074506.
PEAK, PEAK_ERROR = 0.275, 0.0025 + 0.002
# How many standard errors, of run and reference together, are still agreement.
SIGMAS = 4


def read(name):
    with open(name) as file:
        return json.load(file)


def results(outputs):
    """What the jobs left, if its bytes are those that were recorded."""
    found = []
    for output in outputs:
        if output['task'] != 'analyse':
            continue
        with urllib.request.urlopen(output['url']) as file:
            content = file.read()
        digest = 'sha256:' + hashlib.sha256(content).hexdigest()
        if digest != output['digest']:
            sys.exit('report.py: job %d: %s has %s, recorded is %s' % (output['job'], output['url'], digest, output['digest']))
        found.append(json.loads(content))
    if not found:
        sys.exit('report.py: the dataset has no results yet')
    return found


def combine(jobs, name):
    """Mean of a number over jobs, and its statistical error."""
    n = len(jobs)
    return sum(job[name] for job in jobs) / n, sum(job[name + '_error'] ** 2 for job in jobs) ** 0.5 / n


def temperatures(found):
    """One row per temperature."""
    rows = []
    for temperature in sorted({result['temperature'] for result in found}):
        jobs = [result for result in found if result['temperature'] == temperature]
        row = {'temperature': temperature, 'jobs': len(jobs), 'picoseconds': sum(job['picoseconds'] for job in jobs)}
        for name in ('density', 'peak', 'height'):
            row[name], row[name + '_error'] = combine(jobs, name)
        row['rdf'] = [[points[0][0], sum(g for _, g in points) / len(points)] for points in zip(*[job['rdf'] for job in jobs])]
        if temperature in DENSITY:
            row['reference'], row['reference_error'] = DENSITY[temperature]
            row['sigmas'] = (row['density'] - row['reference']) / (row['density_error'] ** 2 + row['reference_error'] ** 2) ** 0.5
        rows.append(row)
    return rows


def hours(milliseconds, usage):
    return milliseconds / 3.6e6 * usage.get('cores', 1)


def checkpoints(tasks):
    """What interruptions cost, and what checkpoints saved of it, in core-hours: the
    time of earlier attempts that the one which counts did not have to repeat."""
    sums = {'tasks': len(tasks), 'attempts': 0, 'interrupted': 0, 'resumed': 0, 'elsewhere': 0, 'used': 0.0, 'saved': 0.0}
    for task in tasks:
        attempts = task.get('attempts', [])
        for before, attempt in zip([None] + attempts, attempts):
            usage = attempt['usage']
            sums['attempts'] += 1
            sums['used'] += hours(usage['wall_ms'], usage)
            sums['interrupted'] += attempt['verdict'] == 'preempted'
            kept = usage.get('kept_ms', 0)
            sums['resumed'] += kept > 0
            sums['elsewhere'] += kept > 0 and before is not None and before['pilot'] != attempt['pilot']
            if attempt['accepted']:
                sums['saved'] += hours(kept, usage)
    return sums


def judge(rows, sums):
    """What is wrong, as sentences."""
    for row in rows:
        if abs(row.get('sigmas', 0)) > SIGMAS:
            yield 'the density at %g K is %.1f standard errors from the published one' % (row['temperature'], row['sigmas'])
        if row['temperature'] == 300 and abs(row['peak'] - PEAK) > PEAK_ERROR + SIGMAS * row['peak_error']:
            yield 'the first peak at 300 K is at %.4f nm, published is %.3f' % (row['peak'], PEAK)
    for cold, warm in zip(rows, rows[1:]):
        for name, what in (('density', 'the density'), ('height', 'the first peak')):
            if warm[name] >= cold[name]:
                yield '%s does not fall from %g to %g K' % (what, cold['temperature'], warm['temperature'])
    if not any('sigmas' in row for row in rows):
        yield 'no temperature has a published density'
    if not sums['elsewhere']:
        yield 'no task went on from a checkpoint on another pilot'


def text(rows, sums):
    yield '   T   boxes     ps   density, kg/m³   published        off   first peak, nm       height'
    for row in rows:
        published = '%7.1f ± %3.1f  %5.1f σ' % (row['reference'], row['reference_error'], row['sigmas']) if 'sigmas' in row else 'no value'
        yield '%4g %7d %6g   %7.1f ± %4.1f   %-22s  %.5f ± %.5f  %5.3f ± %.3f' % (
            row['temperature'], row['jobs'], row['picoseconds'], row['density'], row['density_error'], published,
            row['peak'], row['peak_error'], row['height'], row['height_error'])
    yield ''
    yield '%d tasks took %d attempts: %d were interrupted, %d went on from a checkpoint, %d of these on another pilot' % (
        sums['tasks'], sums['attempts'], sums['interrupted'], sums['resumed'], sums['elsewhere'])
    yield '%.4f core-hours used; checkpoints saved %.4f (%.0f %%) against restarting' % (
        sums['used'], sums['saved'], 100 * sums['saved'] / (sums['used'] + sums['saved']) if sums['used'] else 0)


def main(place):
    rows = temperatures(results(read(os.path.join(place, 'outputs.json'))))
    sums = checkpoints([read(name) for name in sorted(glob.glob(os.path.join(place, 'tasks', '*.json')))])
    wrong = list(judge(rows, sums))
    with open(os.path.join(place, 'report.json'), 'w') as file:
        json.dump({'temperatures': rows, 'checkpoints': sums, 'wrong': wrong}, file, indent=1)
    print('\n'.join(text(rows, sums)))
    for sentence in wrong:
        print('WRONG: ' + sentence)
    if not wrong:
        print('all within %d standard errors of what is published' % SIGMAS)
    return 1 if wrong else 0


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    sys.exit(main(sys.argv[1]))
