"""Enough of the IPModule interface to run a class without floe, for tests."""


class IPModule(object):
    def __init__(self):
        self.parameters = {}

    def AddParameter(self, name, help, default):
        self.parameters[name] = default

    def GetParameter(self, name):
        return self.parameters[name]

    def SetParameter(self, name, value):
        if name not in self.parameters:
            raise KeyError(name)
        self.parameters[name] = value

    def Configure(self):
        pass

    def Finish(self, stats):
        return 0


def main(arguments):
    """ipmodule.py module.Class name=value …: prints the statistics as JSON."""
    import importlib
    import json
    module, name = arguments[0].rsplit('.', 1)
    one = getattr(importlib.import_module(module), name)()
    for argument in arguments[1:]:
        one.SetParameter(*argument.split('=', 1))
    one.Configure()
    stats = {}
    code = one.Execute(stats) or 0
    one.Finish(stats)
    print(json.dumps(stats, sort_keys=True))
    return code


if __name__ == '__main__':
    import sys
    sys.modules['ipmodule'] = sys.modules['__main__']
    sys.exit(main(sys.argv[1:]))
