"""Runs one Python class or function as a module: python floe_module.py SPEC.json

SPEC names the class, its file, its parameters, and where to leave statistics
and the reason of a failure. Valid from Python 2.7 to 3.13, standard library only:
the interpreter is the payload's own.
"""

from __future__ import absolute_import, division, print_function

import difflib
import importlib
import inspect
import io
import json
import logging
import os
import sys
import traceback

import floe_ipmodule

try:
    text_types = (basestring,)
except NameError:
    text_types = (str,)


class Refused(Exception):
    """A failure whose text says all; no traceback is needed."""


class Statistics(dict):
    """What Execute fills. A name that is not there counts from 0: stats['x'] += 1."""

    def __missing__(self, name):
        return 0


def text(value):
    """Any value as text, also what Python 2 holds as bytes."""
    try:
        value = value if isinstance(value, text_types) else str(value)
    except UnicodeError:
        value = '%r' % (value,)
    return value.decode('utf-8', 'replace') if isinstance(value, bytes) else value


def native(value):
    """JSON's unicode as the interpreter's own str, which bindings of C++ want."""
    if isinstance(value, dict):
        return dict((native(k), native(v)) for k, v in value.items())
    if isinstance(value, list):
        return [native(v) for v in value]
    if isinstance(value, text_types) and not isinstance(value, str):
        try:
            return str(value)
        except UnicodeError:
            return value
    return value


def load_file(name, path):
    """Import the file at path under name."""
    if os.path.isdir(path) or path.endswith(('.zip', '.egg', '.whl')):
        sys.path.insert(0, path)
        return importlib.import_module(name)
    sys.path.insert(1, os.path.dirname(os.path.abspath(path)))
    if sys.version_info[0] == 2:
        import imp
        return imp.load_source(name, path)
    from importlib import util  # no name of this function may hide importlib
    from importlib.machinery import SourceFileLoader
    spec = util.spec_from_file_location(name, path, loader=SourceFileLoader(name, path))
    module = util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: it may import or pickle itself
    spec.loader.exec_module(module)
    return module


def missing(error, name):
    """Whether an ImportError is about name or a parent of it, not about what it imports."""
    absent = getattr(error, 'name', None)
    if absent is None:
        absent = str(error).split()[-1].strip("'\"")
    return name == absent or name.startswith(absent + '.') or name.endswith('.' + absent)


def load(spec):
    """The class, function or ready instance that the module names."""
    package, _, name = native(spec['class']).rpartition('.')
    if spec.get('src'):
        package = package or os.path.splitext(os.path.basename(spec['src']))[0]
        module = load_file(package, spec['src'])
    elif not package:
        raise Refused('class %s: want package.Class, or a src that defines it' % name)
    else:
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            if not missing(error, package):
                raise
            try:  # IceProd 1 wrote gsiftp.URLCopy for iceprod.modules.gsiftp.URLCopy
                module = importlib.import_module('iceprod.modules.' + package)
            except ImportError as second:
                if not missing(second, 'iceprod.modules.' + package):
                    raise
                raise Refused('class %s: %s' % (spec['class'], error))
    if not hasattr(module, name):
        public = [n for n in dir(module) if not n.startswith('_')]
        raise Refused('class %s: no %s in %s%s' % (spec['class'], name, module.__name__, nearest(name, public)))
    return getattr(module, name)


def nearest(name, names):
    folded = dict((n.lower(), n) for n in names)
    close = difflib.get_close_matches(name.lower(), list(folded), 1, 0.5)
    return '; did you mean %s?' % folded[close[0]] if close else ''


def parameter_names(module):
    """The parameters a module has declared, or None where it does not say."""
    for attribute in ('description', 'parameters', 'params'):
        declared = getattr(module, attribute, None)
        if isinstance(declared, dict):
            return sorted(text(n) for n in declared)
    return None


def set_parameter(module, name, value):
    try:
        module.SetParameter(name, value)
    except Exception as error:
        names = parameter_names(module)
        if names is None or name.lower() in [n.lower() for n in names]:
            raise
        raise Refused('unknown parameter %s of %s%s; it has %s' % (
            name, type(module).__name__, nearest(name, names), ', '.join(names) or 'none'))


def configure(module, spec):
    """Give a module its parameters: those of args must exist. Those of the
    module must, too, unless there are args: then IceProd 2 would have used them
    for expressions only."""
    for name, value in spec['parameters']:
        try:
            set_parameter(module, native(name), native(value))
        except Refused as error:
            if not spec['kwargs']:
                raise
            print('floe: %s; taken as a parameter for expressions' % error, file=sys.stderr)
    for name, value in spec['kwargs']:
        set_parameter(module, native(name), native(value))
    if hasattr(module, 'SetParser'):
        module.SetParser(floe_ipmodule.ExpParser(native(spec['steering']), native(spec['job']), native(spec['system'])))
    if hasattr(module, 'ExpandDefaults'):
        module.ExpandDefaults()


def function_names(function):
    """The parameters of a function that can be given by name; None where it takes any."""
    try:
        if hasattr(inspect, 'signature'):
            parameters = inspect.signature(function).parameters.values()
            if [p for p in parameters if p.kind == p.VAR_KEYWORD]:
                return None
            return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        spec = inspect.getargspec(function)
        return None if spec.keywords else list(spec.args)
    except (TypeError, ValueError):
        return None


def keywords(function, spec):
    """What a plain function is called with by name, by the rules of configure."""
    names = function_names(function)
    given = {}
    for own, pairs in ((True, spec['parameters']), (False, spec['kwargs'])):
        for name, value in pairs:
            name = native(name)
            if names is not None and name not in names:
                refused = 'unknown parameter %s of %s%s; it has %s' % (
                    name, spec['class'], nearest(name, names), ', '.join(names) or 'none')
                if not own or not (spec['kwargs'] or spec['args']):
                    raise Refused(refused)
                print('floe: %s; taken as a parameter for expressions' % refused, file=sys.stderr)
                continue
            given[name] = native(value)
    return given


def call(method, *arguments):
    """Call with as many of the arguments as the method takes."""
    try:
        if hasattr(inspect, 'signature'):
            kinds = inspect.signature(method).parameters.values()
            most = len([p for p in kinds if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)])
            if [p for p in kinds if p.kind == p.VAR_POSITIONAL]:
                most = len(arguments)
        else:
            spec = inspect.getargspec(method)
            most = len(arguments) if spec.varargs else len(spec.args) - (1 if inspect.ismethod(method) else 0)
    except (TypeError, ValueError):
        most = len(arguments)
    return method(*arguments[:most])


def refuse(what, result):
    """IceProd's rule: anything true is a failure."""
    if isinstance(result, bool) and result:
        raise Refused('%s returned True, which counts as a failure; return 0 or nothing for success' % what)
    if result:
        raise Refused('%s returned %r; 0 or nothing is success' % (what, result))


def run(spec, stats):
    """Run the target; stats receives its statistics."""
    target = load(spec)
    if inspect.isclass(target) and callable(getattr(target, 'Execute', None)):
        module = target()
    elif not inspect.isclass(target) and callable(getattr(target, 'Execute', None)):
        module = target  # such as FromOptionParser(parser, main)
    else:
        result = target(*native(spec['args']), **keywords(target, spec))
        if isinstance(result, dict):
            stats.update(result)
        return
    configure(module, spec)
    if callable(getattr(module, 'Configure', None)):
        call(module.Configure, None)
    refuse('Execute', call(module.Execute, stats))
    if callable(getattr(module, 'Finish', None)):
        refuse('Finish', call(module.Finish, stats))


def number(value):
    """A statistic for JSON; what is no finite number stays text, for the pilot to refuse by name."""
    try:
        value = float(value)
    except (TypeError, ValueError, OverflowError):
        return text(value)
    if value != value or value in (float('inf'), float('-inf')):
        return text(value)
    return value


def reason():
    """The line that names the exception: the first one, the last one for a SyntaxError."""
    kind, value = sys.exc_info()[:2]
    lines = ''.join(text(line) for line in traceback.format_exception_only(kind, value)).strip().splitlines()
    return lines[-1 if isinstance(value, SyntaxError) else 0]


def say(error):
    """Tell the log what went wrong."""
    print('floe: ' + error, file=sys.stderr)


def write(path, value):
    with open(path + '.new', 'w') as f:
        json.dump(value, f)
    os.rename(path + '.new', path)


def main(path):
    with io.open(path, encoding='utf-8') as f:
        spec = json.load(f)
    sys.dont_write_bytecode = True
    sys.argv = [native(spec['class'])]
    sys.path.insert(1, os.getcwd())
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s: %(message)s')
    floe_ipmodule.install()
    error, stats = None, Statistics()
    try:
        run(spec, stats)
    except Refused as failure:
        error = text(failure.args[0])
        say(error)
    except SystemExit as leave:
        if leave.code not in (None, 0):
            error = 'SystemExit: ' + text(leave.code)
            say(error)
    except BaseException:
        traceback.print_exc()
        error = reason()
    sys.stdout.flush()
    if error is not None:
        write(spec['result'], {'error': error[:1500]})
        return 1
    write(spec['statistics'], dict((text(k), number(v)) for k, v in stats.items()))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
