"""Tests one graphics card: does it compute what a processor computes, and does its
memory keep what is written to it?

    python -c TEXT CARD KERNELS PTX

CARD is a card of FLOE_GPUS, which alone the variables of the process let it see.
KERNELS are kernels.cl, PTX kernels.ptx. Needs no package, and any Python from 2.7
on. What drives the card is loaded from where its driver put it: libcuda for cards
of NVIDIA, libamdhip64 and libhiprtc for those of AMD, and the ICD loader
libOpenCL.so.1, which is enough for any card, and all for what only OpenCL knows.

Prints one line of JSON, with a verdict:

    sound     by and device say what was tested through what
    bad       says has what went wrong
    untested  says has why nothing could be loaded to test it with

and opencl, which is true if the card was found sound through OpenCL. A driver that
ends this process or hangs is for the caller to judge.
"""
import json
import os
import shutil
import struct
import sys
import tempfile

try:
    import ctypes
except ImportError:
    ctypes = None

ROUNDS, LANES = 256, 256
ITEMS = 1 << 14               # of the kernel compute
PATTERN = 128 << 20           # bytes of memory that are tested, at most, …
SHARE = 8                     # … and at most one part in so many of what is free
SAMPLE = 4096                 # bytes read back at both ends of what is tested
SEED = 0x9E3779B9
WORD = 0xFFFFFFFF
GROUP = 256

# Errors of CUDA's driver that tell of its compiler, which is a library of its own and
# which programs with code for their cards do not need: invalid image, no binary,
# invalid PTX, no compiler, another version, compiling forbidden.
NO_WORD = (200, 209, 218, 221, 222, 223)


class Bad(Exception):
    """The card, or its driver, is not sound."""


class Missing(Exception):
    """There is nothing to test the card with."""


def load(*names):
    complaint = None
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError as e:
            complaint = complaint or str(e)
    raise Missing(complaint)


class Library(object):
    """Calls of one library, each of which returns 0 or an error."""

    # What errors mean that tell of a card or its node. Source: cuda.h, cl.h.
    meanings = {
        'cu': {2: 'out of memory', 46: 'in use by another process', 100: 'no device', 214: 'uncorrectable memory error', 700: 'illegal address', 702: 'launch timed out',
               715: 'illegal instruction', 719: 'launch failed', 802: 'system not ready: is the fabric manager running?',
               803: 'the driver does not fit its libraries', 999: 'unknown'},
        'hi': {2: 'out of memory', 100: 'no device', 214: 'uncorrectable memory error', 700: 'illegal address', 719: 'launch failed',
               999: 'unknown'},
        'cl': {-2: 'device not available', -4: 'out of memory', -5: 'out of resources', -6: 'out of memory of the node', -11: 'does not compile'},
    }

    def __init__(self, *names):
        self.library = load(*names)

    def call(self, name, *arguments):
        try:
            function = getattr(self.library, name)
        except AttributeError:
            raise Missing('its library has no %s' % name)
        fail(name, function(*arguments))


def fail(name, code):
    if code:
        meaning = Library.meanings.get(name[:2], {}).get(code)
        raise Bad('%s: error %d%s' % (name, code, ' (%s)' % meaning if meaning else ''))


def size(n):
    return ctypes.c_size_t(n)


def word(n):
    return ctypes.c_uint32(n)


def pointers(values):
    """The addresses of arguments, as CUDA and HIP launch kernels with."""
    return (ctypes.c_void_p * len(values))(*[ctypes.cast(ctypes.byref(v), ctypes.c_void_p) for v in values])


class CUDA(object):
    """CUDA's driver. Its names end in the version of their arguments."""

    def __init__(self, kernels, ptx):
        self.cuda = cuda = Library('libcuda.so.1')
        cuda.call('cuInit', word(0))
        version, device, context, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int()
        cuda.call('cuDriverGetVersion', ctypes.byref(version))
        cuda.call('cuDeviceGetCount', ctypes.byref(count))
        if count.value != 1:
            raise Bad('CUDA sees %d devices where it should see this card alone' % count.value)
        cuda.call('cuDeviceGet', ctypes.byref(device), ctypes.c_int(0))
        name = ctypes.create_string_buffer(128)
        cuda.call('cuDeviceGetName', name, ctypes.c_int(127), device)
        cuda.call('cuDevicePrimaryCtxRetain', ctypes.byref(context), device)
        cuda.call('cuCtxSetCurrent', context)
        self.module = ctypes.c_void_p()
        code = cuda.library.cuModuleLoadData(ctypes.byref(self.module), ctypes.c_char_p(ptx.encode('ascii')))
        if code in NO_WORD:
            raise Missing('cuModuleLoadData: error %d: the driver does not compile the test' % code)
        fail('cuModuleLoadData', code)
        self.name = 'CUDA %d.%d' % (version.value // 1000, version.value % 1000 // 10)
        self.device = name.value.decode('utf-8', 'replace')

    def free(self):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.cuda.call('cuMemGetInfo_v2', ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, n):
        memory = ctypes.c_uint64()
        self.cuda.call('cuMemAlloc_v2', ctypes.byref(memory), size(n))
        return memory

    def write(self, memory, content):
        self.cuda.call('cuMemcpyHtoD_v2', memory, ctypes.c_char_p(content), size(len(content)))

    def read(self, memory, offset, n):
        content = ctypes.create_string_buffer(n)
        self.cuda.call('cuMemcpyDtoH_v2', content, ctypes.c_uint64(memory.value + offset), size(n))
        return content.raw

    def launch(self, kernel, items, arguments):
        function = ctypes.c_void_p()
        self.cuda.call('cuModuleGetFunction', ctypes.byref(function), self.module, ctypes.c_char_p(kernel))
        self.cuda.call('cuLaunchKernel', function, word((items + GROUP - 1) // GROUP), word(1), word(1), word(GROUP), word(1), word(1),
                       word(0), None, pointers(arguments), None)
        self.cuda.call('cuCtxSynchronize')


class HIP(object):
    """ROCm's runtime, with its compiler."""

    def __init__(self, kernels, ptx):
        places = [d + '%s.so' + v for d in ('', '/opt/rocm/lib/') for v in ('', '.7', '.6', '.5')]
        self.hip = hip = Library(*[p % 'libamdhip64' for p in places])
        compiler = Library(*[p % 'libhiprtc' for p in places])
        hip.call('hipInit', word(0))
        count, version = ctypes.c_int(), ctypes.c_int()
        hip.call('hipGetDeviceCount', ctypes.byref(count))
        if count.value != 1:
            raise Bad('HIP sees %d devices where it should see this card alone' % count.value)
        hip.call('hipSetDevice', ctypes.c_int(0))
        hip.call('hipRuntimeGetVersion', ctypes.byref(version))
        name = ctypes.create_string_buffer(128)
        hip.call('hipDeviceGetName', name, ctypes.c_int(127), ctypes.c_int(0))
        program, length = ctypes.c_void_p(), ctypes.c_size_t()
        compiler.call('hiprtcCreateProgram', ctypes.byref(program), ctypes.c_char_p(kernels.encode('utf-8')), ctypes.c_char_p(b'kernels.cl'),
                      ctypes.c_int(0), None, None)
        # Without options it compiles for the device that is set.
        code = compiler.library.hiprtcCompileProgram(program, ctypes.c_int(0), None)
        if code:
            raise Missing('hiprtcCompileProgram: error %d: ROCm does not compile the test' % code)
        compiler.call('hiprtcGetCodeSize', program, ctypes.byref(length))
        code = ctypes.create_string_buffer(max(length.value, 1))
        compiler.call('hiprtcGetCode', program, code)
        self.module = ctypes.c_void_p()
        hip.call('hipModuleLoadData', ctypes.byref(self.module), code)
        self.name = 'HIP %d.%d' % (version.value // 10000000, version.value // 100000 % 100)
        self.device = name.value.decode('utf-8', 'replace')

    def free(self):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.hip.call('hipMemGetInfo', ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, n):
        memory = ctypes.c_void_p()
        self.hip.call('hipMalloc', ctypes.byref(memory), size(n))
        return memory

    def write(self, memory, content):
        self.hip.call('hipMemcpyHtoD', memory, ctypes.c_char_p(content), size(len(content)))

    def read(self, memory, offset, n):
        content = ctypes.create_string_buffer(n)
        self.hip.call('hipMemcpyDtoH', content, ctypes.c_void_p(memory.value + offset), size(n))
        return content.raw

    def launch(self, kernel, items, arguments):
        function = ctypes.c_void_p()
        self.hip.call('hipModuleGetFunction', ctypes.byref(function), self.module, ctypes.c_char_p(kernel))
        self.hip.call('hipModuleLaunchKernel', function, word((items + GROUP - 1) // GROUP), word(1), word(1), word(GROUP), word(1), word(1),
                      word(0), None, pointers(arguments), None)
        self.hip.call('hipDeviceSynchronize')


class OpenCL(object):
    """Any card, through the loader of OpenCL's drivers."""

    DEVICE_GPU, DEVICE_ALL = 4, 0xFFFFFFFF
    DEVICE_TYPE, DEVICE_VENDOR_ID, DEVICE_MEMORY, DEVICE_LARGEST, DEVICE_NAME = 0x1000, 0x1001, 0x101F, 0x1010, 0x102B
    DEVICE_NOT_FOUND, PLATFORM_NOT_FOUND = -1, -1001
    PLATFORM_NAME, BUILD_LOG = 0x0902, 0x1183
    READ_WRITE = 1

    def __init__(self, kernels, card):
        self.cl = Library('libOpenCL.so.1')
        found, self.name = self.choose(card)
        self.id = found
        self.device = self.text('clGetDeviceInfo', found, word(self.DEVICE_NAME))
        one = (ctypes.c_void_p * 1)(found)
        self.context = self.make('clCreateContext', None, word(1), one, None, None)
        self.queue = self.make('clCreateCommandQueue', self.context, found, ctypes.c_uint64(0))
        text = kernels.encode('utf-8')
        source, length = ctypes.c_char_p(text), size(len(text))
        self.program = self.make('clCreateProgramWithSource', self.context, word(1), ctypes.byref(source), ctypes.byref(length))
        try:
            self.cl.call('clBuildProgram', self.program, word(1), one, ctypes.c_char_p(b'-cl-std=CL1.2'), None, None)
        except Bad as e:
            raise Bad('%s: %s' % (e, self.text('clGetProgramBuildInfo', self.program, found, word(self.BUILD_LOG))[:400]))

    def make(self, name, *arguments):
        function, code = getattr(self.cl.library, name), ctypes.c_int32()
        function.restype = ctypes.c_void_p
        made = function(*(arguments + (ctypes.byref(code),)))
        fail(name, code.value or (0 if made else -1))
        return ctypes.c_void_p(made)

    def several(self, name, absent, *arguments):
        function, count = getattr(self.cl.library, name), word(0)
        code = function(*(arguments + (word(0), None, ctypes.byref(count))))
        if code == absent:
            return []
        found = (ctypes.c_void_p * max(count.value, 1))()
        code = code or count.value and function(*(arguments + (count, found, None)))
        fail(name, code)
        return [ctypes.c_void_p(one) for one in found[:count.value]]

    def text(self, name, *arguments):
        n = size(0)
        self.cl.call(name, *(arguments + (size(0), None, ctypes.byref(n))))
        value = ctypes.create_string_buffer(max(n.value, 1))
        self.cl.call(name, *(arguments + (n, value, None)))
        return value.value.decode('utf-8', 'replace').strip()

    def number(self, device, what, n):
        value = ctypes.c_uint64()
        self.cl.call('clGetDeviceInfo', device, word(what), size(n), ctypes.byref(value), None)
        return value.value

    def choose(self, card):
        """The device of a card: by its place, or the one GPU of its vendor that its
        variables let us see."""
        vendor = 0x1002 if is_amd(card) else 0x10DE
        for p, platform in enumerate(self.several('clGetPlatformIDs', self.PLATFORM_NOT_FOUND)):
            name = self.text('clGetPlatformInfo', platform, word(self.PLATFORM_NAME))
            if name in ('Clover', 'rusticl') and not card.startswith('OCL-'):
                continue  # Mesa's drivers do not know the vendors' variables
            devices = self.several('clGetDeviceIDs', self.DEVICE_NOT_FOUND, platform, ctypes.c_uint64(self.DEVICE_ALL))
            for d, device in enumerate(devices):
                if card.startswith('OCL-'):
                    if card != 'OCL-%d.%d' % (p, d):
                        continue
                elif not self.number(device, self.DEVICE_TYPE, 8) & self.DEVICE_GPU or self.number(device, self.DEVICE_VENDOR_ID, 4) != vendor:
                    continue
                return device, 'OpenCL, ' + name
        raise (Bad if card.startswith('OCL-') else Missing)('OpenCL does not see it')

    def free(self):
        return min(self.number(self.id, self.DEVICE_MEMORY, 8), SHARE * self.number(self.id, self.DEVICE_LARGEST, 8))

    def allocate(self, n):
        return self.make('clCreateBuffer', self.context, ctypes.c_uint64(self.READ_WRITE), size(n), None)

    def transfer(self, name, memory, offset, n, content):
        self.cl.call(name, self.queue, memory, word(1), size(offset), size(n), content, word(0), None, None)

    def write(self, memory, content):
        self.transfer('clEnqueueWriteBuffer', memory, 0, len(content), ctypes.c_char_p(content))

    def read(self, memory, offset, n):
        content = ctypes.create_string_buffer(n)
        self.transfer('clEnqueueReadBuffer', memory, offset, n, content)
        return content.raw

    def launch(self, kernel, items, arguments):
        function = self.make('clCreateKernel', self.program, ctypes.c_char_p(kernel))
        for place, value in enumerate(arguments):
            self.cl.call('clSetKernelArg', function, word(place), size(ctypes.sizeof(value)), ctypes.byref(value))
        whole, group = size((items + GROUP - 1) // GROUP * GROUP), None
        self.cl.call('clEnqueueNDRangeKernel', self.queue, function, word(1), None, ctypes.byref(whole), group, word(0), None, None)
        self.cl.call('clFinish', self.queue)
        self.cl.call('clReleaseKernel', function)


def is_amd(card):
    return card.startswith('AMD-') or card.startswith('GPU-') and len(card) == 20


def expected():
    """What the kernel compute gives for its first items."""
    out = []
    for i in range(LANES):
        x, f = (SEED + i) & WORD, i
        for _ in range(ROUNDS):
            x ^= x << 13 & WORD
            x ^= x >> 17
            x ^= x << 5 & WORD
            f = (3 * f + (x & 1023)) % 4096
        out.append(x ^ f)
    return struct.pack('=%dI' % LANES, *out)


def pattern(first, words, seed):
    return struct.pack('=%dI' % words, *[(i * 2654435761 & WORD) ^ seed for i in range(first, first + words)])


def difference(what, got, want, first):
    for i in range(0, len(want), 4):
        if got[i:i + 4] != want[i:i + 4]:
            found, right = struct.unpack('=I', got[i:i + 4])[0], struct.unpack('=I', want[i:i + 4])[0]
            raise Bad('%s: word %d is %08x, want %08x' % (what, first + i // 4, found, right))


def test(card):
    """Raises Bad unless the card computes and remembers."""
    out = card.allocate(4 * ITEMS)
    card.write(out, b'\0' * (4 * ITEMS))
    card.launch(b'compute', ITEMS, [out, word(ITEMS), word(SEED)])
    difference('it computes wrongly', card.read(out, 0, 4 * ITEMS), expected() * (ITEMS // LANES), 0)

    n = max(min(PATTERN, card.free() // SHARE) // SAMPLE * SAMPLE, 2 * SAMPLE)
    words = n // 4
    memory, wrong = card.allocate(n), card.allocate(4)
    for seed in (SEED, SEED ^ WORD): # each bit once set and once not
        card.write(wrong, b'\0' * 4)
        card.launch(b'fill', words, [memory, word(words), word(seed)])
        card.launch(b'check', words, [memory, word(words), word(seed), wrong])
        count = struct.unpack('=I', card.read(wrong, 0, 4))[0]
        if count:
            raise Bad('its memory does not keep what is written: %d of %d words differ' % (count, words))
        for at in (0, n - SAMPLE):
            difference('its memory does not keep what is written', card.read(memory, at, SAMPLE), pattern(at // 4, SAMPLE // 4, seed), at // 4)
    return n


def judge(name, kernels, ptx):
    if ctypes is None:
        return {'verdict': 'untested', 'says': 'this Python has no ctypes'}
    ways = [lambda: OpenCL(kernels, name)]
    if not name.startswith('OCL-'):
        ways.insert(0, (lambda: HIP(kernels, ptx)) if is_amd(name) else (lambda: CUDA(kernels, ptx)))
    result, missing = {'verdict': 'untested', 'opencl': False}, []
    for way in ways:
        last = way is ways[-1]
        try:
            card = way()
            n = test(card)
        except Missing as e:
            missing.append(str(e))
            continue
        except Bad as e:
            if result['verdict'] == 'sound':
                result['says'] = 'OpenCL cannot use it: %s' % e
                return result
            return {'verdict': 'bad', 'says': str(e), 'opencl': False}
        if result['verdict'] != 'sound':
            result.update(verdict='sound', by=card.name, device=card.device, memory=n)
        result['opencl'] = last
    if result['verdict'] == 'untested':
        result['says'] = '; '.join(missing)
    return result


def main():
    card, kernels, ptx = sys.argv[1:4]
    if not card.startswith('OCL-'):
        print(json.dumps(judge(card, kernels, ptx), sort_keys=True))
        return
    # PoCL keeps what it compiles where it later takes it from: in a directory of our
    # own, which nobody else can fill, whatever the home is.
    kept = tempfile.mkdtemp(prefix='floe-selftest-')
    try:
        os.environ['POCL_CACHE_DIR'] = kept
        print(json.dumps(judge(card, kernels, ptx), sort_keys=True))
    finally:
        shutil.rmtree(kept, True)


main()
