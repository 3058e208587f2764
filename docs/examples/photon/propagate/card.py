"""Runs the kernel of photon-propagate on one device of OpenCL.

It is given to python with -c and needs nothing but the ICD loader, libOpenCL.so.1;
any Python from 2.7 on will do. With the argument "list" it prints the devices, one
JSON object. Else it reads a request and writes a reply:

    request  one line of JSON, then the source of the kernel and the buffers that
             the kernel reads, each as many bytes as the line says
    reply    one line of JSON that names the device, then for each bunch of photons
             its first photon (8 bytes), its hits, absorbed and escaped photons
             (4 bytes each) and the words of its hits, in the machine's byte order

What goes wrong is one line on standard error, and exit status 3.
"""
import ctypes
import json
import os
import struct
import sys

HIT_WORDS = 5

# Of OpenCL's cl.h.
DEVICE_TYPE_GPU, DEVICE_TYPE_ALL = 4, 0xFFFFFFFF
DEVICE_NOT_FOUND, PLATFORM_NOT_FOUND_KHR = -1, -1001
DEVICE_TYPE, DEVICE_VENDOR_ID, DEVICE_NAME, DRIVER_VERSION = 0x1000, 0x1001, 0x102B, 0x102D
PLATFORM_NAME = 0x0902
PROGRAM_BUILD_LOG = 0x1183
MEM_READ_WRITE, MEM_READ_ONLY_COPY = 1, 4 | 32

VENDOR_NVIDIA, VENDOR_AMD = 0x10DE, 0x1002


class Failure(Exception):
    """What a person is told."""


class OpenCL(object):
    """The calls of libOpenCL that are needed; each raises on an error."""

    def __init__(self):
        try:
            self.library = ctypes.CDLL('libOpenCL.so.1')
        except OSError as e:
            raise Failure('no OpenCL here: %s' % e)

    def call(self, name, *arguments):
        """Calls a function that returns its error."""
        code = getattr(self.library, name)(*arguments)
        if code:
            raise Failure('%s: error %d' % (name, code))

    def make(self, name, *arguments):
        """Calls a function that returns an object, and its error in the last place."""
        function = getattr(self.library, name)
        function.restype = ctypes.c_void_p
        code = ctypes.c_int32()
        made = function(*(arguments + (ctypes.byref(code),)))
        if code.value or not made:
            raise Failure('%s: error %d' % (name, code.value))
        return ctypes.c_void_p(made)

    def several(self, name, absent, *arguments):
        """Asks how many there are, then for all of them."""
        function, count = getattr(self.library, name), ctypes.c_uint32()
        code = function(*(arguments + (0, None, ctypes.byref(count))))
        if code == absent or not (code or count.value):
            return []
        found = (ctypes.c_void_p * count.value)()
        code = code or function(*(arguments + (count.value, found, None)))
        if code:
            raise Failure('%s: error %d' % (name, code))
        return [ctypes.c_void_p(one) for one in found]

    def text(self, name, *arguments):
        """A text that is asked for twice: its length, then itself."""
        size = ctypes.c_size_t()
        self.call(name, *(arguments + (ctypes.c_size_t(0), None, ctypes.byref(size))))
        value = ctypes.create_string_buffer(max(size.value, 1))
        self.call(name, *(arguments + (size, value, None)))
        return value.value.decode('utf-8', 'replace').strip()

    def number(self, device, what):
        value = ctypes.c_uint64()
        self.call('clGetDeviceInfo', device, ctypes.c_uint32(what), ctypes.c_size_t(8 if what == DEVICE_TYPE else 4),
                  ctypes.byref(value), None)
        return value.value

    def devices(self):
        """All devices, as OCL-PLATFORM.DEVICE and what is known of each."""
        found = []
        for p, platform in enumerate(self.several('clGetPlatformIDs', PLATFORM_NOT_FOUND_KHR)):
            name = self.text('clGetPlatformInfo', platform, ctypes.c_uint32(PLATFORM_NAME))
            every = self.several('clGetDeviceIDs', DEVICE_NOT_FOUND, platform, ctypes.c_uint64(DEVICE_TYPE_ALL))
            for d, device in enumerate(every):
                found.append((device, {
                    'id': 'OCL-%d.%d' % (p, d), 'platform': name,
                    'device': self.text('clGetDeviceInfo', device, ctypes.c_uint32(DEVICE_NAME)),
                    'driver': self.text('clGetDeviceInfo', device, ctypes.c_uint32(DRIVER_VERSION)),
                    'gpu': bool(self.number(device, DEVICE_TYPE) & DEVICE_TYPE_GPU),
                    'vendor': self.number(device, DEVICE_VENDOR_ID)}))
        return found


def choose(found, card):
    """The device of a card of FLOE_GPUS: by its place, or the first GPU that its
    vendor's variables let us see."""
    amd = card.startswith('AMD-') or card.startswith('GPU-') and len(card) == 20
    vendor = VENDOR_AMD if amd else VENDOR_NVIDIA
    for device, known in found:
        if card.startswith('OCL-') and known['id'] == card:
            return device, known
        if not card.startswith('OCL-') and known['gpu'] and known['vendor'] == vendor:
            return device, known
    there = ', '.join('%(id)s %(device)s' % known for _, known in found) or 'none'
    raise Failure('no device of OpenCL is card %s; there are: %s' % (card, there))


def build(cl, context, device, source, options):
    text, length = ctypes.c_char_p(source), ctypes.c_size_t(len(source))
    program = cl.make('clCreateProgramWithSource', context, ctypes.c_uint32(1), ctypes.byref(text), ctypes.byref(length))
    devices = (ctypes.c_void_p * 1)(device)
    try:
        cl.call('clBuildProgram', program, ctypes.c_uint32(1), devices, ctypes.c_char_p(options.encode('ascii')), None, None)
    except Failure as e:
        log = cl.text('clGetProgramBuildInfo', program, device, ctypes.c_uint32(PROGRAM_BUILD_LOG))
        raise Failure('%s; %s' % (e, log[:2000]))
    return cl.make('clCreateKernel', program, ctypes.c_char_p(b'propagate'))


def run(cl, request, read, out):
    device, known = choose(cl.devices(), request['card'])
    out.write(json.dumps(known).encode('ascii') + b'\n')
    context = cl.make('clCreateContext', None, ctypes.c_uint32(1), (ctypes.c_void_p * 1)(device), None, None)
    queue = cl.make('clCreateCommandQueue', context, device, ctypes.c_uint64(0))
    kernel = build(cl, context, device, read(request['kernel']), request['options'])
    arguments = []

    def buffer(flags, size, content=None):
        made = cl.make('clCreateBuffer', context, ctypes.c_uint64(flags), ctypes.c_size_t(size), content)
        arguments.append(made)
        return made

    for size in request['buffers']:
        buffer(MEM_READ_ONLY_COPY, size, ctypes.create_string_buffer(read(size), size))
    bunch, photons = request['bunch'], request['photons']
    seed = ctypes.create_string_buffer(struct.pack('=Q', request['seed']), 8)
    start, count = ctypes.c_uint64(), ctypes.c_uint32()
    varying = {len(arguments) + 2: start, len(arguments) + 3: count}
    arguments += [ctypes.c_int32(request['steps']), seed, start, count]
    hits = buffer(MEM_READ_WRITE, 4 * HIT_WORDS * bunch)
    ends = buffer(MEM_READ_WRITE, 12)

    def transfer(name, memory, size, content):
        cl.call(name, queue, memory, ctypes.c_uint32(1), ctypes.c_size_t(0), ctypes.c_size_t(size), content, ctypes.c_uint32(0), None, None)

    def give(place, value):
        cl.call('clSetKernelArg', kernel, ctypes.c_uint32(place), ctypes.c_size_t(ctypes.sizeof(value)), ctypes.byref(value))

    for place, value in enumerate(arguments):
        give(place, value)
    counted = (ctypes.c_uint32 * 3)()
    found = ctypes.create_string_buffer(4 * HIT_WORDS * bunch)
    for first in range(0, photons, bunch):
        start.value, count.value = first, min(bunch, photons - first)
        for place, value in varying.items():
            give(place, value)
        transfer('clEnqueueWriteBuffer', ends, 12, (ctypes.c_uint32 * 3)())
        items = ctypes.c_size_t((count.value + 63) // 64 * 64)
        cl.call('clEnqueueNDRangeKernel', queue, kernel, ctypes.c_uint32(1), None, ctypes.byref(items), None, ctypes.c_uint32(0), None, None)
        cl.call('clFinish', queue)
        transfer('clEnqueueReadBuffer', ends, 12, counted)
        if sum(counted) != count.value:
            raise Failure('of %d photons from %d on, the device counts %d' % (count.value, first, sum(counted)))
        size = 4 * HIT_WORDS * counted[0]
        if size:
            transfer('clEnqueueReadBuffer', hits, size, found)
        out.write(struct.pack('=QIII', first, *counted))
        out.write(found.raw[:size])


def main(arguments):
    # PoCL keeps what it compiles in the home, and ends where it cannot write there.
    # TMPDIR is the attempt's own.
    if os.environ.get('TMPDIR'):
        os.environ.setdefault('POCL_CACHE_DIR', os.path.join(os.environ['TMPDIR'], 'pocl'))
    cl = OpenCL()
    if arguments == ['list']:
        print(json.dumps([known for _, known in cl.devices()]))
        return
    source = getattr(sys.stdin, 'buffer', sys.stdin)
    out = getattr(sys.stdout, 'buffer', sys.stdout)

    def read(size):
        content = source.read(size)
        if len(content) != size:
            raise Failure('the request ends early')
        return content

    run(cl, json.loads(source.readline().decode('ascii')), read, out)
    out.flush()


try:
    main(sys.argv[1:])
except Failure as e:
    sys.stderr.write('card: %s\n' % e)
    sys.exit(3)
