"""Says what modules a Python file defines: python floe_describe.py read|run FILE [ANSWER]

read looks at the text and runs nothing of it; run imports it and asks each module.
The answer is JSON, in the file ANSWER or on standard output. Exit code 3: this Python cannot read the file.
Valid from Python 2.7 to 3.13.
"""

from __future__ import absolute_import, division, print_function

import ast
import inspect
import io
import json
import os
import sys

import floe_ipmodule
import floe_module

text = floe_module.text
OPTION_METHODS = ('add_option', 'add_argument')


def plain(value, depth=0):
    """A default as JSON; what JSON has not becomes {"python": its repr}."""
    if value is None or isinstance(value, bool) or isinstance(value, (int, float)):
        if isinstance(value, float) and (value != value or value in (float('inf'), float('-inf'))):
            return {'python': repr(value)}
        return value
    if isinstance(value, floe_module.text_types):
        return text(value)
    if isinstance(value, (list, tuple)) and depth < 20:
        return [plain(v, depth + 1) for v in value]
    if isinstance(value, dict) and depth < 20:
        return dict((text(k), plain(v, depth + 1)) for k, v in value.items())
    return {'python': text(repr(value))[:200]}


def parameter(name, default, help):
    return {'name': text(name), 'default': plain(default), 'help': text(help or '')}


def doc_of(value):
    return inspect.cleandoc(text(value)) if value else ''


def from_instance(name, module):
    """Asks a module that was made."""
    if hasattr(module, 'ShowParameters'):
        shown = module.ShowParameters()
    else:
        declared = getattr(module, 'parameters', None) or getattr(module, 'params', None) or {}
        helps = getattr(module, 'description', None) or {}
        shown = [(n, declared[n], helps.get(n, '') if isinstance(helps, dict) else '') for n in sorted(declared)]
    return {'class': name, 'doc': doc_of(type(module).__doc__), 'parameters': [parameter(n, v, h) for n, v, h in shown], 'notes': []}


def base_modules():
    """What classes inherit from the shim, by the name of the base."""
    known = {}
    for name in ('IPBaseClass', 'IPModule', 'Hello', 'GoodBye', 'GenericModule', 'ParsingModule'):
        known[name] = from_instance(name, getattr(floe_ipmodule, name)())['parameters']
    return known


def last_name(node):
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, 'id', '')


def statements(body):
    """The statements of a file, also those under if, try and with."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            for part in ('body', 'handlers', 'orelse', 'finalbody'):
                for inner in statements(getattr(node, part, None) or []):
                    yield inner


class Reader(object):
    """Reads one file."""

    def __init__(self, source, path):
        self.tree = ast.parse(source, path)
        self.source = source.decode('utf-8', 'replace').splitlines()
        self.bases = base_modules()
        self.body = list(statements(self.tree.body))
        self.classes = dict((n.name, n) for n in self.body if isinstance(n, ast.ClassDef))
        self.constants = {}
        for node in self.body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                try:
                    self.constants[node.targets[0].id] = ast.literal_eval(node.value)
                except ValueError:
                    pass

    def value(self, node):
        """The value of an expression, if it is one that can be told without running it."""
        if isinstance(node, ast.Name) and node.id in self.constants:
            return self.constants[node.id], True
        try:
            return ast.literal_eval(node), True
        except (ValueError, TypeError, SyntaxError, MemoryError, RuntimeError):
            return {'python': self.written(node)}, False

    def written(self, node):
        """An expression as it stands in the file."""
        if hasattr(ast, 'get_source_segment'):
            found = ast.get_source_segment('\n'.join(self.source), node)
            if found:
                return found[:200]
        return self.source[node.lineno - 1].strip()[:200]

    def call(self, node, names, notes, where):
        """The arguments of a call by name, as (value, known)."""
        if getattr(node, 'starargs', None) or getattr(node, 'kwargs', None) or [
                a for a in node.args if type(a).__name__ == 'Starred'] or [k for k in node.keywords if k.arg is None]:
            notes.append('line %d: %s is called with arguments that only running it shows' % (node.lineno, where))
            return None
        given = {}
        for name, argument in list(zip(names, node.args)) + [(k.arg, k.value) for k in node.keywords]:
            given[name] = self.value(argument)
        return given

    def declared(self, body, notes):
        """The parameters that AddParameter and SetParameter name, in a class's methods."""
        found = []
        for node in ordered(body.body):
            method = last_name(node.func)
            if method == 'AddParameter':
                given = self.call(node, ('param', 'description', 'value'), notes, method)
            elif method == 'SetParameter':
                given = self.call(node, ('param', 'value'), notes, method)
            else:
                continue
            if given is None:
                continue
            name, constant = given.get('param', (None, False))
            if not constant:
                notes.append('line %d: %s takes a name that only running it shows' % (node.lineno, method))
                continue
            default, known = given.get('value', (None, True))
            help = given.get('description', ('', True))[0]
            found.append((method, {'name': text(name), 'help': text(help) if not isinstance(help, dict) else help['python'],
                                   'default': plain(default) if known else default}))
        return found

    def inherited(self, node, notes, seen=()):
        """The parameters of a class with those of its bases, and whether it is a module."""
        parameters, module = [], any(getattr(m, 'name', '') == 'Execute' for m in node.body)
        for base in node.bases:
            name = last_name(base)
            if name in seen:
                continue
            if name in self.classes and name != node.name:
                more, is_module = self.inherited(self.classes[name], notes, seen + (node.name,))
            elif name in self.bases:
                more, is_module = list(self.bases[name]), True
            else:
                more, is_module = [], False
                if name != 'object':
                    notes.append('line %d: what %s inherits from %s is not in this file' % (node.lineno, node.name, name))
            parameters.extend(more)
            module = module or is_module
        merged = dict((p['name'].lower(), p) for p in parameters)
        for method, p in self.declared(node, notes):
            known = merged.get(p['name'].lower())
            if method == 'SetParameter':
                if known:
                    merged[p['name'].lower()] = dict(known, default=p['default'])
                continue
            merged[p['name'].lower()] = p
        return [merged[n] for n in sorted(merged)], module

    def options(self, nodes, notes):
        """The options that a parser is given below some nodes."""
        found = []
        for node in ordered(nodes):
            if last_name(node.func) not in OPTION_METHODS:
                continue
            given = self.call(node, (), notes, last_name(node.func))
            if given is None:
                continue
            flags = [self.value(a) for a in node.args]
            names = [f[0] for f in flags if f[1] and isinstance(f[0], floe_module.text_types)]
            long = [n for n in names if n.startswith('--')] + names
            if 'dest' not in given and not long:
                notes.append('line %d: %s takes a name that only running it shows' % (node.lineno, last_name(node.func)))
                continue
            name = given['dest'][0] if 'dest' in given else long[0].lstrip('-').replace('-', '_')
            action = given.get('action', ('', True))[0]
            implied = {'store_true': False, 'store_false': True}.get(action if not isinstance(action, dict) else '')
            default, known = given.get('default', (implied, True))
            found.append({'name': text(name), 'default': plain(default) if known else default, 'help': text(given.get('help', ('', True))[0])})
        return found

    def function(self, node):
        """A plain function whose parameters all have defaults or annotations, and so are
        meant to be given by name; None for others."""
        a = node.args
        positional = getattr(a, 'posonlyargs', []) + a.args
        given = dict(zip([name_of(p) for p in positional][len(positional) - len(a.defaults):], a.defaults))
        given.update((name_of(p), d) for p, d in zip(getattr(a, 'kwonlyargs', []), getattr(a, 'kw_defaults', [])) if d is not None)
        parameters = positional + getattr(a, 'kwonlyargs', [])
        if node.name.startswith('_') or node.decorator_list or not parameters or getattr(a, 'posonlyargs', []):
            return None
        found = []
        for p in parameters:
            name, kind = name_of(p), getattr(p, 'annotation', None)
            if name not in given and kind is None:
                return None
            default, known = self.value(given[name]) if name in given else (None, True)
            found.append({'name': text(name), 'default': plain(default) if known else default,
                          'help': '' if kind is None else text(self.written(kind)) + ('' if name in given else ', required')})
        return found

    def read(self):
        out = []
        functions = dict((n.name, n) for n in self.body if isinstance(n, ast.FunctionDef))
        for node in self.body:
            notes = []
            if isinstance(node, ast.FunctionDef) and node in self.tree.body:
                parameters = self.function(node)
                if parameters:
                    out.append({'class': node.name, 'doc': doc_of(ast.get_docstring(node)), 'parameters': parameters, 'notes': []})
            elif isinstance(node, ast.ClassDef):
                parameters, module = self.inherited(node, notes)
                if module:
                    out.append({'class': node.name, 'doc': doc_of(ast.get_docstring(node)), 'parameters': parameters, 'notes': notes})
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and last_name(node.value.func) == 'FromOptionParser':
                parser, main = (list(node.value.args) + [None, None])[:2]
                # The parser is made by a function, or by the file itself.
                maker = functions.get(last_name(parser.func)) if isinstance(parser, ast.Call) else None
                top = [n for n in self.body if not isinstance(n, (ast.FunctionDef, ast.ClassDef))]
                parameters = list(self.bases['IPBaseClass']) + self.options([maker] if maker else top, notes)
                body = functions.get(last_name(main)) if main is not None else None
                out.append({'class': last_name(node.targets[0]), 'doc': doc_of(ast.get_docstring(body)) if body else '',
                            'parameters': sorted(parameters, key=lambda p: p['name'].lower()), 'notes': notes})
        return out


def name_of(parameter):
    """The name of a function's parameter."""
    return getattr(parameter, 'arg', None) or getattr(parameter, 'id', '')


def ordered(nodes):
    """The calls below nodes in the order of the file."""
    calls = [n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Call)]
    return sorted(calls, key=lambda n: (n.lineno, n.col_offset))


def run(path):
    """Imports the file and makes each module that it defines itself."""
    floe_ipmodule.install()
    name = os.path.splitext(os.path.basename(path))[0]
    file = floe_module.load_file(name, path)
    out = []
    for attribute in sorted(vars(file)):
        value = getattr(file, attribute)
        own = getattr(value if inspect.isclass(value) else type(value), '__module__', '')
        if attribute.startswith('_') or not callable(getattr(value, 'Execute', None)):
            continue
        if inspect.isclass(value):
            if own != name:
                continue
            try:
                made = value()
            except Exception as error:
                out.append({'class': attribute, 'doc': doc_of(value.__doc__), 'parameters': [],
                            'notes': ['it cannot be made: %s: %s' % (type(error).__name__, error)]})
                continue
            out.append(from_instance(attribute, made))
        else:
            found = from_instance(attribute, value)
            found['doc'] = doc_of(getattr(getattr(value, 'main', None), '__doc__', None))
            out.append(found)
    return out


def main(how, path, answer=None):
    with io.open(path, 'rb') as f:
        source = f.read()
    out = open(answer, 'w') if answer else os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what the file prints is not the answer
    try:
        modules = run(path) if how == 'run' else Reader(source, path).read()
    except SyntaxError as error:
        print('%s:%s: %s' % (path, error.lineno, error.msg), file=sys.stderr)
        return 3
    json.dump({'python': '.'.join(str(n) for n in sys.version_info[:3]), 'modules': modules}, out, sort_keys=True, separators=(',', ':'))
    out.close()
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
