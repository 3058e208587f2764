#!/usr/bin/env python3
"""Writes the steering file of the merge from a listing of the trials' outputs.

    floe outputs DATASET -o json | make_merge.py INDIR OUTDIR > merge.yaml

The listing is a JSON array of {job, task, name, url, size, digest}. Each trial
becomes an input with its digest as checksum, so that the merge reads exactly
the files that were accepted. INDIR holds this example's data/, OUTDIR takes the
report and the picture.
"""
import hashlib
import json
import os
import re
import sys

HEAD = '''# Dataset B: merges %(count)d files of trials. Written by make_merge.py.
version: "3"
title: Hot spots of the Galactic centre region
description: >-
  The search of the Fermi-LAT counts map above 10 GeV, with post-trial
  probabilities from the background trials and a match with known sources.
categories: [example, analysis]
labels: {experiment: sky}
options:
  # The metaproject that build.sh packs: where it is, and its digest.
  software: file:///tmp/sky/sky-1.0.tar.gz
  software_digest: ""
steering:
  resources:
    - {remote: $options(software), local: sky-1.0, checksum: $options(software_digest)}
  parameters:
    indir: %(indir)s
    outdir: %(outdir)s
    version: "1.0"
    datasum: 24803
tasks:
  - name: merge
    reproducible: bytes
    requirements: {cpu: 1, memory: 0.5, disk: 0.2, time: 0.1}
    trays:
      - name: merge
        projects: [{name: sky, class: $steering(version)}]
        modules:
          - name: merge
            src: hotspot
            args: >-
              merge -map fermi_counts.fits.gz -datasum $steering(datasum) -sources sources.csv
              -trials . -expect %(count)d -report report.json -figure significance.svg
            data:
              - {type: permanent, movement: input, local: fermi_counts.fits.gz, remote: $steering(indir)/fermi_counts.fits.gz, checksum: "%(map)s", cache: yes}
              - {type: permanent, movement: input, local: sources.csv, remote: $steering(indir)/sources.csv, checksum: "%(sources)s", cache: yes}
              - {type: permanent, movement: output, local: report.json, remote: $steering(outdir)/report.json}
              - {type: permanent, movement: output, local: significance.svg, remote: $steering(outdir)/significance.svg}
'''
TRIAL = ('              - {type: permanent, movement: input, local: trial-%06d.json, '
         'remote: %s, checksum: "%s"}\n')


def digest(name):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data', name)
    with open(path, 'rb') as file:
        return 'sha256:' + hashlib.sha256(file.read()).hexdigest()


def text(url):
    """A URL as a YAML string; expressions must not sneak in through names."""
    if '$' in url or not re.match(r'^[a-z0-9]+://', url):
        sys.exit('make_merge: unusable URL %r' % url)
    return json.dumps(url)


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__.strip())
    trials = {}
    for output in json.load(sys.stdin):
        if output['task'] != 'trial':
            continue
        job, sum_ = int(output['job']), output['digest']
        if not sum_.startswith('sha256:'):
            sum_ = 'sha256:' + sum_
        if not re.match(r'^sha256:[0-9a-f]{64}$', sum_):
            sys.exit('make_merge: job %d: %r is not a SHA-256 digest' % (job, output['digest']))
        if job in trials:
            sys.exit('make_merge: job %d is listed twice' % job)
        trials[job] = (output['url'], sum_)
    if not trials:
        sys.exit('make_merge: the listing has no outputs of a task "trial"')
    sys.stdout.write(HEAD % dict(count=len(trials), indir=text(arguments[0]), outdir=text(arguments[1]),
                                 map=digest('fermi_counts.fits.gz'), sources=digest('sources.csv')))
    for job in sorted(trials):
        url, sum_ = trials[job]
        sys.stdout.write(TRIAL % (job, text(url), sum_))


main(sys.argv[1:])
