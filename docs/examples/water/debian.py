#!/usr/bin/env python3
"""Unpacks programs from Debian packages into a directory that runs anywhere.

    debian.py DIR --program usr/bin/gmx --data usr/share/gromacs gromacs gromacs-data

DIR becomes what a metaproject is: bin/, lib/, share/. The packages, and of those
they depend on what is needed, are fetched by apt-get and unpacked by dpkg-deb;
nothing is installed and nobody needs to be root. Each program finds its
libraries beside itself ($ORIGIN/../lib), wherever the directory lies. Only the C
library is left to the node. Prints a JSON object: the versions of the first
package and of all packages used, and the version of the C library that is needed.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

# What belongs to the C library. It must be the node's: the kernel loads it by an
# absolute path, and its parts must be of one version.
C_LIBRARY = re.compile(r'^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|nsl|anl|mvec))\.so')


def fail(message):
    sys.exit('debian.py: ' + message)


def output(*command, **options):
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, universal_newlines=True, **options).stdout
    except OSError as err:
        fail('%s: %s; this needs Debian, or a system made from it' % (command[0], err.strerror))
    except subprocess.CalledProcessError as err:
        fail('%s: exit %d' % (' '.join(command), err.returncode))


def unpack(deb, root):
    """Unpacks a package, but for documents that may be larger than the program."""
    os.mkdir(root)
    with subprocess.Popen(['dpkg-deb', '--fsys-tarfile', deb], stdout=subprocess.PIPE) as packed:
        output('tar', '-x', '-C', root, '--exclude=./usr/share/doc/*/*/*', '--exclude=./usr/share/man', stdin=packed.stdout)
    if packed.returncode != 0:
        fail('dpkg-deb --fsys-tarfile %s: exit %d' % (deb, packed.returncode))


class Packages:
    """The packages that were unpacked, each into a directory of its own."""

    def __init__(self, place):
        self.place = place
        self.roots = {}  # name to directory
        self.versions = {}
        self.libraries = {}  # name of a shared library to (package, file)

    def fetch(self, names):
        """Downloads and unpacks what is not there yet."""
        names = sorted(set(names) - set(self.roots))
        if not names:
            return
        debs = os.path.join(self.place, 'debs-%d' % len(self.roots))
        os.mkdir(debs)
        output('apt-get', '-qq', '-o', 'APT::Sandbox::User=root', 'download', *names, cwd=debs)
        for deb in sorted(os.listdir(debs)):
            deb = os.path.join(debs, deb)
            name, version = (output('dpkg-deb', '-f', deb, field).strip() for field in ('Package', 'Version'))
            root = os.path.join(self.place, name)
            unpack(deb, root)
            os.unlink(deb)
            self.roots[name], self.versions[name] = root, version
            for folder, _, files in os.walk(root):
                for file in files:
                    if '.so' in file and os.path.exists(os.path.join(folder, file)):
                        self.libraries.setdefault(file, (name, os.path.join(folder, file)))
        for name in names:
            if name not in self.roots:
                fail('apt-get downloaded no package %s' % name)

    def file(self, path):
        for name, root in self.roots.items():
            found = os.path.join(root, path)
            if os.path.exists(found):
                return name, found
        fail('%s is in none of the packages %s' % (path, ' '.join(self.roots)))

    def real(self, path):
        """The file that a path stands for; never one of this machine."""
        found = os.path.realpath(path)
        if not found.startswith(os.path.realpath(self.place) + os.sep):
            fail('%s is a link to %s, out of its package' % (path, found))
        return found


def depends(names):
    """What packages depend on directly; of alternatives the first."""
    wanted, alternatives, virtual = [], False, False
    for line in output('apt-cache', 'depends', *sorted(names)).splitlines():
        match = re.match(r'^ (\||\s)(Pre)?Depends: (<?)(\S+?)>?$', line)
        if match:
            if not alternatives and not match.group(3):
                wanted.append(match.group(4))
            virtual = not alternatives and bool(match.group(3))
            alternatives = match.group(1) == '|'
        elif virtual and line.startswith('    '):
            wanted.append(line.strip())  # the first that provides it
            virtual = False
    return [name for name in wanted if not re.match(r'^(libc6|libc-bin|dpkg|perl|debconf)(:|$)', name)]


class Relocation:
    """Programs and the libraries they need, put side by side."""

    def __init__(self, packages, place):
        self.packages = packages
        self.place = place
        self.tool = None
        self.used = set()  # packages something was taken from
        self.files = {}  # what was put in place, to the run path it needs
        self.missing = set()

    def patchelf(self, *arguments):
        if self.tool is None:
            self.packages.fetch(['patchelf'])
            self.tool = self.packages.file('usr/bin/patchelf')[1]
        return output(self.tool, *arguments)

    def put(self, package, source, target, runpath):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(self.packages.real(source), target)
        os.chmod(target, 0o755)
        self.used.add(package)
        self.files[target] = runpath

    def programs(self, paths):
        for path in paths:
            package, source = self.packages.file(path)
            self.put(package, source, os.path.join(self.place, 'bin', os.path.basename(path)), '$ORIGIN/../lib')

    def libraries(self):
        """Puts in place what is needed and there, and notes what is missing."""
        todo, self.missing = list(self.files), set()
        while todo:
            for name in self.patchelf('--print-needed', todo.pop()).split():
                target = os.path.join(self.place, 'lib', name)
                if C_LIBRARY.match(name) or target in self.files:
                    continue
                if name not in self.packages.libraries:
                    self.missing.add(name)
                    continue
                self.put(*self.packages.libraries[name], target, '$ORIGIN')
                todo.append(target)

    def relocate(self):
        """Tells each file where its libraries are, seen from itself."""
        for target, runpath in self.files.items():
            self.patchelf('--set-rpath', runpath, target)

    def glibc(self):
        """The newest version of the C library that any of the files asks for."""
        newest = (0, 0)
        for target in self.files:
            with open(target, 'rb') as file:
                for version in re.findall(rb'GLIBC_(\d+)\.(\d+)', file.read()):
                    newest = max(newest, tuple(int(part) for part in version))
        return '%d.%d' % newest


def main():
    parser = argparse.ArgumentParser(description='Unpacks programs from Debian packages into a directory that runs anywhere.')
    parser.add_argument('directory', help='a directory that is not there yet')
    parser.add_argument('packages', nargs='+')
    parser.add_argument('--program', action='append', default=[], help='path of a program in the packages, such as usr/bin/gmx')
    parser.add_argument('--data', action='append', default=[], help='path of a directory in the packages; it keeps its place below share/')
    arguments = parser.parse_args()
    if not arguments.program:
        parser.error('give a --program')
    if os.path.exists(arguments.directory):
        fail('%s is there already' % arguments.directory)

    with tempfile.TemporaryDirectory() as place:
        packages = Packages(place)
        packages.fetch(arguments.packages)
        tree = Relocation(packages, arguments.directory)
        tree.programs(arguments.program)
        tree.libraries()
        asked = set(arguments.packages)
        while tree.missing:
            more = set(depends(asked | tree.used & set(packages.roots))) - set(packages.roots)
            if not more:
                fail('no package that was looked at has %s' % ' '.join(sorted(tree.missing)))
            packages.fetch(more)
            tree.libraries()
        tree.relocate()
        for path in arguments.data:
            package, source = packages.file(path)
            tree.used.add(package)
            inner = re.sub(r'^(usr/)?share/', '', path)
            shutil.copytree(source, os.path.join(arguments.directory, 'share', inner),
                            copy_function=lambda a, b: shutil.copy(packages.real(a), b))
        for name in sorted(tree.used):
            notice = os.path.join(packages.roots[name], 'usr/share/doc', name, 'copyright')
            if os.path.isfile(notice):
                target = os.path.join(arguments.directory, 'share/doc', name)
                os.makedirs(target)
                shutil.copyfile(notice, os.path.join(target, 'copyright'))
        version = packages.versions[arguments.packages[0]]
        print(json.dumps({
            'version': re.sub(r'^\d+:|-[^-]*$', '', version),
            'glibc': tree.glibc(),
            'packages': {name: packages.versions[name] for name in sorted(tree.used)},
        }, indent=2))


if __name__ == '__main__':
    main()
