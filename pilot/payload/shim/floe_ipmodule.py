"""The IPModule interface: what classes written for IceProd derive from.

They import it under the names in ALIASES, which install() provides wherever the
payload's own software has no module of that name. Valid from Python 2.7 to 3.13.
"""

from __future__ import absolute_import, division, print_function

import logging
import os
import re
import subprocess
import sys
import types

try:
    text_types = (basestring,)
except NameError:
    text_types = (str,)

ALIASES = ('ipmodule', 'iceprod.modules.ipmodule', 'icecube.simprod.ipmodule')
PACKAGES = ('iceprod', 'iceprod.modules', 'icecube', 'icecube.simprod')


def truth(value):
    """Steering files of old write truth values as text."""
    if isinstance(value, text_types):
        return value.strip().lower() not in ('', '0', 'false', 'no', 'none', '[]')
    return bool(value)


class IPBaseClass(object):
    """A module with named parameters; their names do not depend on case.

    A parameter is also an attribute of its lower-case name, as long as the class
    has no attribute of that name itself.
    """

    def __init__(self):
        # Classes with two such bases call this twice.
        if 'parameters' not in self.__dict__:
            self.parameters = {}
            self.description = {}
            self.parser = None
            self.AddParameter('execute', 'whether the module does anything', True)
        self.status = 0
        self.configured = False
        self.realtime = self.usertime = self.systime = 0.0
        self.logger = logging.getLogger(self.__class__.__name__)

    def AddParameter(self, param, description, value, type=None, explicit_type=None):
        """Declare a parameter with its default."""
        self.description[param.lower()] = description
        self._store(param, value)

    def SetParameter(self, param, value):
        """Set a declared parameter."""
        if param.lower() not in self.description:
            raise KeyError('unknown parameter %s of %s; it has %s' % (
                param, self.__class__.__name__, ', '.join(sorted(self.description))))
        self._store(param, value)
        return self

    def SetParameters(self, *pairs):
        for name, value in pairs:
            self.SetParameter(name, value)
        return self

    __call__ = SetParameters

    def GetParameter(self, param):
        """The value of a declared parameter."""
        name = param.lower()
        if name not in self.description:
            raise KeyError('no parameter %s in %s; it has %s' % (
                param, self.__class__.__name__, ', '.join(sorted(self.description))))
        return self.__dict__.get(name, self.parameters[name]) if self._mirrored(name) else self.parameters[name]

    def _mirrored(self, name):
        return name not in _OWN and not hasattr(type(self), name)

    def _store(self, param, value):
        name = param.lower()
        self.parameters[name] = value
        if self._mirrored(name):
            self.__dict__[name] = value

    def ExpandDefaults(self):
        """Put steering parameters in the place of $steering(x) in defaults."""
        for name in list(self.parameters):
            value = self.GetParameter(name)
            if self.parser is not None and isinstance(value, text_types) and '$' in value:
                self._store(name, self.parser.parse(value))

    def SetParser(self, parser):
        self.parser = parser

    def Configure(self, tray=None):
        self.configured = True

    def Execute(self, stats):
        """Whether to go on: what derived classes ask first."""
        return truth(self.GetParameter('execute'))

    def Finish(self, stats=None):
        return 0

    def ShowParameters(self):
        return [(n, self.GetParameter(n), self.description[n]) for n in sorted(self.description)]

    def PrintStats(self, stats=None):
        for name in sorted(stats or {}):
            self.logger.info('%s: %s', name, stats[name])


_OWN = frozenset(['parameters', 'description', 'parser', 'status', 'configured', 'logger',
                  'realtime', 'usertime', 'systime'])

IPModule = IPBaseClass


class Hello(IPBaseClass):
    """Says a greeting."""

    def __init__(self):
        IPBaseClass.__init__(self)
        self.AddParameter('greeting', 'what to say', 'Hello World')

    def Execute(self, stats):
        if IPBaseClass.Execute(self, stats):
            print(self.GetParameter('greeting'))
        return 0


class GoodBye(Hello):
    """Says another one."""

    def __init__(self):
        Hello.__init__(self)
        self.SetParameter('greeting', 'Good bye World')


class GenericModule(IPBaseClass):
    """Runs a program, without a shell."""

    def __init__(self):
        IPBaseClass.__init__(self)
        self.AddParameter('Executable', 'the program', '')
        self.AddParameter('Arguments', 'list of its arguments', [])

    def Execute(self, stats):
        if not IPBaseClass.Execute(self, stats):
            return 0
        arguments = self.GetParameter('Arguments')
        if isinstance(arguments, text_types):
            arguments = arguments.split()
        return subprocess.call([self.GetParameter('Executable')] + ['%s' % (a,) for a in arguments])


class ParsingModule(IPBaseClass):
    """A module whose parameters are also options of a command line."""

    def __init__(self, opt_parser=None):
        if '_opt_parser' not in self.__dict__:
            from optparse import OptionParser
            self._opt_parser = opt_parser or OptionParser()
        IPBaseClass.__init__(self)

    def AddParameter(self, param, description, value, explicit_type=None, type=None):
        known = param.lower() in self.description
        IPBaseClass.AddParameter(self, param, description, value)
        if known:
            self._opt_parser.set_default(param.lower(), value)
            return
        kind = explicit_type or type or value.__class__.__name__
        more = {'dest': param.lower(), 'default': value, 'help': description}
        option = '--' + param
        if kind == 'bool':
            more['action'] = 'store_false' if value else 'store_true'
            option = '--no-' + param if value else option
        elif kind == 'list':
            more.update(type='string', action='callback', callback=_split)
        else:
            more['type'] = {'int': 'int', 'long': 'int', 'float': 'float'}.get(kind, 'string')
        self._opt_parser.add_option(option, **more)

    def Execute(self, stats=None):
        return IPBaseClass.Execute(self, {} if stats is None else stats)

    def ExecuteOpts(self, stats=None, opts=None):
        """Take the parameters from the command line and execute."""
        stats = {} if stats is None else stats
        self.parser_opts, self.parser_args = opts or self._opt_parser.parse_args()
        for name in list(self.description):
            if hasattr(self.parser_opts, name):
                self.SetParameter(name, getattr(self.parser_opts, name))
        result = self.Execute(stats)
        self.PrintStats(stats)
        return result


def _split(option, opt, value, parser):
    setattr(parser.values, option.dest, value.split(','))


class FromOptionParser(IPBaseClass):
    """Makes a module of an option parser and main(options, stats)."""

    def __init__(self, parser, main):
        IPBaseClass.__init__(self)
        self.main = main
        if hasattr(parser, 'defaults'):
            self.args = dict(parser.defaults)
            options = list(parser.option_list)
            for group in parser.option_groups:
                options.extend(group.option_list)
        else:  # argparse
            options = [a for a in parser._actions if a.dest != 'help']
            self.args = dict((a.dest, a.default) for a in options)
        helps = dict((o.dest, o.help) for o in options if o.dest)
        self._names = dict((name.lower(), name) for name in self.args)
        for name in self.args:
            self.AddParameter(name, helps.get(name) or '', self.args[name])

    def _mirrored(self, name):
        return name not in ('main', 'args', '_names') and IPBaseClass._mirrored(self, name)

    def Execute(self, stats=None):
        stats = {} if stats is None else stats
        if not IPBaseClass.Execute(self, stats):
            return 0
        options = dict((name, self.GetParameter(name)) for name in self.args)
        return self.main(options, stats) or 0


class ExpParser(object):
    """What self.parser of a module is: text with $steering(x), $args(x), $system(x)
    or $environ(x) in it. A name that nothing has stays as it is written."""

    pattern = re.compile(r'\$(steering|args|options|system|environ)\(([^()]*)\)')

    def __init__(self, steering=None, job=None, system=None):
        self.steering = steering or {}
        self.job = job or {}
        self.system = system or {}

    def parse(self, text, *ignored):
        if not isinstance(text, text_types):
            return text
        for _ in range(16):  # values may name others
            found = self.pattern.sub(self._value, text)
            if found == text:
                break
            text = found
        return text

    def _value(self, match):
        kind, name = match.group(1), match.group(2).strip()
        table = {'steering': self.steering, 'environ': os.environ, 'system': self.system}.get(kind, self.job)
        return '%s' % (table[name],) if name in table else match.group(0)


class _Finder(object):
    """Provides the aliases to import, after everything that is really there."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in ALIASES and fullname not in PACKAGES:
            return None
        from importlib.util import spec_from_loader
        return spec_from_loader(fullname, self, is_package=fullname in PACKAGES)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        _fill(module)

    # Python 2 asks finders before its own search, so that search is made here.
    def find_module(self, fullname, path=None):
        if sys.version_info[0] != 2 or fullname not in ALIASES and fullname not in PACKAGES:
            return None
        import imp
        try:
            found = imp.find_module(fullname.rpartition('.')[2], path)
        except ImportError:
            return self
        if found[0]:
            found[0].close()
        return None

    def load_module(self, fullname):
        module = sys.modules.setdefault(fullname, types.ModuleType(fullname))
        module.__loader__ = self
        if fullname in PACKAGES:
            module.__path__ = []
        _fill(module)
        return module


def _fill(module):
    if module.__name__ in ALIASES:
        for name, value in globals().items():
            if not name.startswith('_'):
                setattr(module, name, value)


def install():
    """Make the aliases importable."""
    sys.meta_path.append(_Finder())
