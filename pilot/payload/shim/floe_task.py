"""What a running Python class says to its pilot, and asks it. Every function raises
Refused, with the name and the text of the refusal, or EnvironmentError without a pilot.

Valid from Python 2.7 to 3.13, standard library only.
"""

from __future__ import absolute_import, division, print_function

import json
import os
import socket


class Refused(Exception):
    """The pilot refused a request; code is the name of the refusal."""

    def __init__(self, code, text):
        Exception.__init__(self, '%s: %s' % (code, text))
        self.code = code


def ask(line):
    """Make one request and return the value of its answer, as text."""
    path = os.environ.get('FLOE_SOCKET')
    if not path:
        raise EnvironmentError('no FLOE_SOCKET: no pilot to speak to')
    if '\n' in line:
        raise Refused('syntax', 'a request is one line')
    line += '\n'
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
        connection.sendall(line if isinstance(line, bytes) else line.encode('utf-8'))
        answer = b''
        while not answer.endswith(b'\n'):
            more = connection.recv(65536)
            if not more:
                raise EnvironmentError('the pilot gave no answer')
            answer += more
    finally:
        connection.close()
    word, _, rest = answer.decode('utf-8').rstrip('\n').partition(' ')
    if word != 'ok':
        raise Refused(*(rest.split(' ', 1) + [''])[:2])
    return rest


def statistic(name, value):
    """Set a statistic of the module that runs."""
    ask('statistic set %s %r' % (name, float(value)))


def add(name, value=1):
    """Add to a statistic, from 0, and return the sum."""
    return float(ask('statistic add %s %r' % (name, float(value))))


def progress(fraction, text=''):
    """Say how much of the work is done, from 0 to 1."""
    ask(('progress %r %s' % (float(fraction), text)).rstrip())


def checkpoint_saved(*paths):
    """Say that these files are whole and can be gone on from; return their size."""
    return int(ask(('checkpoint saved ' + '\t'.join(paths)).rstrip(' ')))


def remaining(margin=0):
    """Seconds until this task's time is over, less a margin; None without an end."""
    try:
        return int(ask('remaining %r' % float(margin)))
    except Refused as refused:
        if refused.code == 'no-limit':
            return None
        raise


def attempt(key=None):
    """What was granted and where this is, as a dict, or one of it as text."""
    return ask('attempt ' + key) if key else json.loads(ask('attempt'))
