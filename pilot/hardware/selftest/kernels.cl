// The kernels of a card's self-test: OpenCL C 1.2, HIP, and the source of
// kernels.ptx, which README.md says how to make. test.py computes the same.

#if defined(__HIP__) || defined(__HIPCC_RTC__)
#define KERNEL extern "C" __global__ void
#define GLOBAL
#define ITEM (blockIdx.x * blockDim.x + threadIdx.x)
#define COUNT(p) atomicAdd(p, 1u)
#define FLOOR floorf
#elif defined(FLOE_PTX) // not __NVPTX__, which NVIDIA's OpenCL may define, too
#define KERNEL kernel void
#define GLOBAL global
#define ITEM (__nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() + __nvvm_read_ptx_sreg_tid_x())
#define COUNT(p) __asm__ volatile("red.global.add.u32 [%0], 1;" : : "l"(p) : "memory")
#define FLOOR __nvvm_floor_f
#else
#define KERNEL kernel void
#define GLOBAL global
#define ITEM (unsigned int)get_global_id(0)
#define COUNT(p) atomic_inc(p)
#define FLOOR floor
#endif

// compute mixes integers and floating point for 256 rounds. Whatever it adds and
// multiplies is a whole number below 2^24, so that any correct rounding, fused or
// not, gives the same. Item i does what item i mod 256 does.
KERNEL compute(GLOBAL unsigned int *out, unsigned int items, unsigned int seed)
{
	unsigned int i = ITEM;
	if (i >= items)
		return;
	unsigned int x = seed + (i & 255u);
	float f = (float)(i & 255u);
	for (int round = 0; round < 256; round++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		f = f * 3.0f + (float)(x & 1023u);
		f -= 4096.0f * FLOOR(f * 0.000244140625f);
	}
	out[i] = x ^ (unsigned int)f;
}

// fill writes a pattern into memory; every word differs from its neighbours.
KERNEL fill(GLOBAL unsigned int *words, unsigned int items, unsigned int seed)
{
	unsigned int i = ITEM;
	if (i < items)
		words[i] = (i * 2654435761u) ^ seed;
}

// check counts words that are not what fill wrote.
KERNEL check(GLOBAL unsigned int *words, unsigned int items, unsigned int seed, GLOBAL unsigned int *wrong)
{
	unsigned int i = ITEM;
	if (i < items && words[i] != ((i * 2654435761u) ^ seed))
		COUNT(wrong);
}
