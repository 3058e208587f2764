"""Sensor electronics and trigger: hits become launches, launches events.

Numbers are IceCube's. Sources: [1] Abbasi et al., NIM A 618 (2010) 139 (the
photomultiplier); [2] Aartsen et al., JINST 12 (2017) P03012 (instrumentation);
[3] Aartsen et al., NIM A 711 (2013) 73 (hole ice).
"""
import math
import random

STRINGS, SENSORS = 86, 60
ENVELOPE = 1.35        # efficiency for which the photons task makes hits
TIME_SPREAD = 2.0      # ns, transit time spread [1]
THRESHOLD = 0.25       # photoelectrons, discriminator [2]
LAUNCH = 427.0         # ns digitised by one launch [2]
COINCIDENCE = 1000.0   # ns, local coincidence [2]
SPAN = 2               # sensors up and down that count as neighbours [2]
MARGIN = 5000.0        # ns of noise before and after the light
HEADER = 'event,trigger_ns,string,sensor,time_ns,charge_pe,coincident'

# detector-a is IceCube's: standard sensors frozen into bubbly hole ice, eight
# coincident launches within 5 us; a third of its light is taken to forget its
# direction on the bubbles. detector-b is an infill of sensors of high
# quantum efficiency in clear hole ice, three within 2.5 us [2].
DETECTORS = {
    'a': dict(forgotten=1 / 3.0, efficiency=1.00, noise_hz=560.0, trigger=8, window=5000.0),
    'b': dict(forgotten=0.0, efficiency=1.35, noise_hz=780.0, trigger=3, window=2500.0),
}


def acceptance(cosine, forgotten):
    """Angular acceptance, 1 for light head-on onto bare sensors.

    The photocathode's hemisphere seen aslant shrinks as (1+c)/2, and light
    that meets it aslant counts for less; ((1+c)/2)^2 says a quarter from the
    side, nothing from behind, a third on average over all directions. Light
    that forgets its direction in the hole ice meets that average, so that
    acceptance falls head-on, rises behind, and keeps its mean, as in [3]. The
    form is ours, not a measured curve.
    """
    return (1 - forgotten) * ((1 + cosine) / 2) ** 2 + forgotten / 3


def charge(draw):
    """The charge of one photoelectron: Gaussian of width 0.3, or, for three
    in ten, an exponential of mean 0.5 [1]."""
    if draw() < 0.3:
        return -0.5 * math.log(1 - draw())
    return max(1 + 0.3 * normal(draw), 0.0)


def normal(draw):
    return math.sqrt(-2 * math.log(1 - draw())) * math.cos(2 * math.pi * draw())


def poisson(draw, mean):
    limit, count, product = math.exp(-mean), 0, draw()
    while product > limit:
        count, product = count + 1, product * draw()
    return count


def read_hits(path):
    """Yields (event, [(string, sensor, time, cosine, weight)]) in file order."""
    event, hits = None, []
    with open(path) as lines:
        header = next(lines, '').rstrip('\n')
        if header != 'event,string,sensor,time_ns,wavelength_nm,cos_eta,weight':
            raise ValueError('%s: %r is not the header of a hit file' % (path, header))
        for line in lines:
            name, string, sensor, time, _, cosine, weight = line.rstrip('\n').split(',')
            if name != event and hits:
                yield event, hits
                hits = []
            event = name
            hits.append((int(string), int(sensor), float(time), float(cosine), float(weight)))
    if hits:
        yield event, hits


def launches(pulses):
    """Joins pulses of one sensor within a digitisation: [string, sensor, time,
    charge, coincident], by string, sensor and time."""
    out = []
    for string, sensor, time, pe in sorted(pulses):
        last = out[-1] if out else None
        if last and (last[0], last[1]) == (string, sensor) and time - last[2] < LAUNCH:
            last[3] += pe
        else:
            out.append([string, sensor, time, pe, False])
    for i, one in enumerate(out):
        for other in out[i + 1:]:
            if other[0] != one[0] or other[1] - one[1] > SPAN:
                break
            if other[1] != one[1] and abs(other[2] - one[2]) <= COINCIDENCE:
                one[4] = other[4] = True
    return out


def trigger(found, count, window):
    """The time at which `count` coincident launches lie within the window."""
    times = sorted(launch[2] for launch in found if launch[4])
    for first, last in zip(times, times[count - 1:]):
        if last - first <= window:
            return last
    return None


def detect(detector, seed, hits, output, stats):
    """Runs a detector over a hit file; writes the launches of triggered events."""
    spec = DETECTORS[detector]
    draw = random.Random(int(seed)).random
    for name in ('events_with_light', 'photoelectrons', 'noise_pulses', 'triggered_signal',
                 'triggered_background', 'charge_pe', 'launches'):
        stats[name] = 0.0
    with open(output, 'w') as out:
        out.write(HEADER + '\n')
        for event, light in read_hits(hits):
            stats['events_with_light'] += 1
            pulses = []
            for string, sensor, time, cosine, weight in light:
                chance = acceptance(cosine, spec['forgotten'])
                if draw() < weight * chance * spec['efficiency'] / ENVELOPE:
                    stats['photoelectrons'] += 1
                    pulses.append((string, sensor, time + TIME_SPREAD * normal(draw), charge(draw)))
            begin = min(hit[2] for hit in light) - MARGIN
            length = max(hit[2] for hit in light) + MARGIN - begin
            for _ in range(poisson(draw, STRINGS * SENSORS * spec['noise_hz'] * length * 1e-9)):
                stats['noise_pulses'] += 1
                pulses.append((1 + int(STRINGS * draw()), 1 + int(SENSORS * draw()),
                               begin + length * draw(), charge(draw)))
            found = launches([p for p in pulses if p[3] > THRESHOLD])
            when = trigger(found, spec['trigger'], spec['window'])
            if when is None:
                continue
            kind = 'triggered_signal' if event.startswith('s') else 'triggered_background'
            stats[kind] += 1
            stats['launches'] += len(found)
            for string, sensor, time, pe, coincident in found:
                stats['charge_pe'] += pe
                out.write('%s,%.1f,%d,%d,%.1f,%.3f,%d\n'
                          % (event, when, string, sensor, time, pe, coincident))
