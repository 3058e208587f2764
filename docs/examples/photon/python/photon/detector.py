"""detector-b as a module; detector-a is the program bin/photon-detector."""
try:
    from iceprod.modules import ipmodule
except ImportError:
    import ipmodule

from photon.response import detect


class DetectorB(ipmodule.IPModule):
    """Sensors of high quantum efficiency; response.DETECTORS['b'] describes them."""

    def __init__(self):
        ipmodule.IPModule.__init__(self)
        self.AddParameter('seed', 'random seed, unique over datasets, jobs and tasks', 0)
        self.AddParameter('hits', 'hit file to read', 'hits.csv')
        self.AddParameter('output', 'file to write', 'detector-b.csv')

    def Execute(self, stats):
        detect('b', self.GetParameter('seed'), self.GetParameter('hits'),
               self.GetParameter('output'), stats)
        return 0
