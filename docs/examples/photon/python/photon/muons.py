"""Muons at the edge of the detector, for the tasks signal and background.

Coordinates: metres, origin in the array's centre 1948.07 m below the surface,
z upward. A direction points where the muon goes; the zenith angle is where it
comes from. Every muon is aimed at a disc around the centre, perpendicular to
its direction, and starts LEAD metres before it.
"""
import math
import random

try:
    from iceprod.modules import ipmodule
except ImportError:
    import ipmodule

CENTRE_DEPTH = 1948.07  # m
DENSITY = 0.917         # of ice, g/cm3: metres to metres water equivalent
LEAD = 900.0            # m
# Mean energy loss dE/dx = a + bE of muons in ice. Source: Chirkin and Rhode,
# hep-ph/0407075; 0.24 GeV/m and 3.3e-4/m in Abbasi et al., NIM A 703 (2013) 190.
LOSS_A = 0.259          # GeV per m.w.e.
LOSS_B = 0.363e-3       # per m.w.e.
HEADER = 'event,energy_gev,x_m,y_m,z_m,dx,dy,dz,weight'


def power_law(u, gamma, low, high):
    """The energy at quantile u of E^-gamma between low and high (may be inf)."""
    if gamma == 1:
        return low * (high / low) ** u
    power = 1.0 - gamma
    top = 0.0 if math.isinf(high) else high ** power
    return (low ** power + u * (top - low ** power)) ** (1.0 / power)


def power_integral(gamma, low, high):
    """The integral of E^-gamma dE from low to high."""
    if gamma == 1:
        return math.log(high / low)
    return (low ** (1 - gamma) - high ** (1 - gamma)) / (gamma - 1)


def gaisser(energy, cosine):
    """Atmospheric muons at sea level over 0.14 E^-2.7 /(cm2 s sr GeV).

    Source: T. Gaisser, Cosmic Rays and Particle Physics (1990); PDG review
    'Cosmic rays', eq. 30.4. Muon decay and the Earth's curvature are left out,
    which is right above 100 GeV and within 70 degrees.
    """
    x = 1.1 * energy * cosine
    return 1 / (1 + x / 115.0) + 0.054 / (1 + x / 850.0)


def needed_at_surface(energy, overburden):
    """The energy that is `energy` after `overburden` m.w.e. of mean loss."""
    ratio = LOSS_A / LOSS_B
    return (energy + ratio) * math.exp(LOSS_B * overburden) - ratio


def left_at_depth(energy, overburden):
    """What mean loss leaves of an energy; below 0 if the muon stopped."""
    ratio = LOSS_A / LOSS_B
    return (energy + ratio) * math.exp(-LOSS_B * overburden) - ratio


def aim(draw, cosine, radius):
    """Start point and direction of a muon with this cosine of its zenith."""
    sine = math.sqrt(max(1 - cosine * cosine, 0.0))
    phi = 2 * math.pi * draw()
    direction = (-sine * math.cos(phi), -sine * math.sin(phi), -cosine)
    # Two unit vectors across the direction span the disc.
    across = (-math.sin(phi), math.cos(phi), 0.0)
    upward = (-cosine * math.cos(phi), -cosine * math.sin(phi), sine)
    r, turn = radius * math.sqrt(draw()), 2 * math.pi * draw()
    point = tuple(r * (math.cos(turn) * a + math.sin(turn) * u) - LEAD * d
                  for a, u, d in zip(across, upward, direction))
    return point, direction


def write(path, rows):
    with open(path, 'w') as out:
        out.write(HEADER + '\n')
        for name, energy, point, direction, weight in rows:
            out.write('%s,%.6f,%.4f,%.4f,%.4f,%.9f,%.9f,%.9f,%.6e\n'
                      % ((name, energy) + point + direction + (weight,)))


class Muons(ipmodule.IPModule):
    """What the two generators share: their parameters and their file."""

    def __init__(self):
        ipmodule.IPModule.__init__(self)
        self.AddParameter('seed', 'random seed, unique over datasets, jobs and tasks', 0)
        self.AddParameter('muons', 'how many to generate', 10)
        self.AddParameter('emin', 'least energy in GeV', 100.0)
        self.AddParameter('radius', 'radius in m of the disc aimed at', 700.0)
        self.AddParameter('output', 'file to write', 'muons.csv')

    def Execute(self, stats):
        self.draw = random.Random(int(self.GetParameter('seed'))).random
        rows = self.generate(int(self.GetParameter('muons')), float(self.GetParameter('emin')),
                             float(self.GetParameter('radius')), stats)
        write(self.GetParameter('output'), rows)
        stats['muons'] = float(len(rows))
        stats['energy_mean_gev'] = sum(row[1] for row in rows) / max(len(rows), 1)
        stats['energy_max_gev'] = max([row[1] for row in rows] or [0.0])
        return 0


class SignalMuons(Muons):
    """Muons from neutrinos: a power law, uniform in solid angle.

    A muon's weight times a flux at its energy, in 1/(GeV cm2 s sr), is its rate
    in Hz; with several jobs divide by their number.
    """

    def __init__(self):
        Muons.__init__(self)
        self.AddParameter('emax', 'largest energy in GeV', 10000.0)
        self.AddParameter('gamma', 'index of the spectrum E^-gamma', 2.0)
        self.AddParameter('cosmin', 'least cosine of the zenith angle', -1.0)
        self.AddParameter('cosmax', 'largest cosine of the zenith angle', 0.2)

    def generate(self, count, emin, radius, stats):
        emax, gamma = float(self.GetParameter('emax')), float(self.GetParameter('gamma'))
        low, high = float(self.GetParameter('cosmin')), float(self.GetParameter('cosmax'))
        area = math.pi * (100 * radius) ** 2
        whole = power_integral(gamma, emin, emax) * 2 * math.pi * (high - low) * area / max(count, 1)
        rows = []
        for i in range(count):
            energy = power_law(self.draw(), gamma, emin, emax)
            point, direction = aim(self.draw, low + (high - low) * self.draw(), radius)
            rows.append(('s%d' % i, energy, point, direction, whole * energy ** gamma))
        return rows


class BackgroundMuons(Muons):
    """Single atmospheric muons that reach the start point with emin.

    Trials uniform in solid angle and position take an energy at the surface
    from E^-2.7 above what the overburden costs, and are kept in proportion to
    Gaisser's flux. The number of trials then measures the live time.
    """

    def __init__(self):
        Muons.__init__(self)
        self.AddParameter('cosmin', 'least cosine of the zenith angle', 0.3)

    def generate(self, count, emin, radius, stats):
        low = float(self.GetParameter('cosmin'))
        bound = max(self.chance(emin, c, CENTRE_DEPTH - LEAD * c - radius * math.sqrt(1 - c * c))
                    for c in (low + (1 - low) * i / 1000.0 for i in range(1001))) * 1.01
        rows, trials = [], 0
        while len(rows) < count:
            trials += 1
            cosine = low + (1 - low) * self.draw()
            point, direction = aim(self.draw, cosine, radius)
            depth = CENTRE_DEPTH - point[2]
            least = needed_at_surface(emin, DENSITY * depth / cosine)
            energy = power_law(self.draw(), 2.7, least, float('inf'))
            if self.draw() * bound < least ** -1.7 * gaisser(energy, cosine):
                left = left_at_depth(energy, DENSITY * depth / cosine)
                rows.append(('b%d' % len(rows), left, point, direction, 1.0))
        area = math.pi * (100 * radius) ** 2
        # One trial stands for this much time: 0.14 E^-2.7 integrates to
        # 0.14/1.7 least^-1.7, and a trial is kept with that over the bound.
        stats['live_time_s'] = trials / (0.14 / 1.7 * bound * 2 * math.pi * (1 - low) * area)
        return rows

    @staticmethod
    def chance(emin, cosine, depth):
        least = needed_at_surface(emin, DENSITY * depth / cosine)
        return least ** -1.7 * gaisser(least, cosine)
