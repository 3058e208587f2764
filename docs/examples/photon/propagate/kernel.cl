// Photons through layered ice, one work-item each: birth and walk of kernel.go in
// single precision, with the same random blocks for the same photon.
//
// What the host defines, from the constants of the Go program:
//   BINS LAYERS STRINGS SENSORS GRID   sizes of the tables
//   TOP LAYER_HEIGHT WALK_RADIUS WALK_HEIGHT PATH_LIMIT CELL      metres
//   TOP_SENSOR SENSOR_SPACING RADIUS                              metres
//   SCATTER_G LIU_SHARE SHOWER_A SHOWER_B SHOWER_SCALE SPEED      see ice.go, light.go

#define STREAM_WALK 0
#define STREAM_BIRTH 1

// Philox4x32-10. Source: Salmon et al., SC'11, table 2 and section 4.
static uint4 philox(uint4 c, uint2 k)
{
	for (int round = 0; round < 10; round++) {
		uint high0 = mul_hi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
		uint high1 = mul_hi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
		c = (uint4)(high1 ^ c.y ^ k.x, low1, high0 ^ c.w ^ k.y, low0);
		k += (uint2)(0x9E3779B9u, 0xBB67AE85u);
	}
	return c;
}

static uint4 block(uint2 seed, ulong number, uint k, uint stream)
{
	return philox((uint4)((uint)number, (uint)(number >> 32), k, stream), seed);
}

// uniform maps a word into (0, 1]. Small values keep their digits, which is what
// the tail of a path needs; words next to the top round to 1.
static float uniform(uint word)
{
	return ((float)word + 0.5f) * 2.3283064e-10f;
}

// turn rotates a unit direction by a polar angle of cosine c and an azimuth in
// turns. Rounding would lengthen it over thousands of scatters: it is made a unit
// again.
static float3 turn(float3 d, float c, float turns)
{
	float s = sqrt(fmax(1.0f - c * c, 0.0f));
	float cosine, sine = sincos(2.0f * M_PI_F * turns, &cosine);
	float u = s * cosine, v = s * sine;
	float across = sqrt(d.x * d.x + d.y * d.y);
	float3 out;
	if (across > 1e-6f)
		out = (float3)(d.x * c + (d.x * d.z * u - d.y * v) / across,
			       d.y * c + (d.y * d.z * u + d.x * v) / across, d.z * c - across * u);
	else
		out = (float3)(u, v * copysign(1.0f, d.z), c * copysign(1.0f, d.z));
	return out / sqrt(dot(out, out));
}

// shower_angle is the cosine at quantile u of the angles of shower particles.
static float shower_angle(float u)
{
	float whole = 1.0f - exp(-SHOWER_B * pow(2.0f, SHOWER_A));
	return fmax(1.0f - pow(-log(1.0f - u * whole) / SHOWER_B, 1.0f / SHOWER_A), -1.0f);
}

// scatter_angle is the cosine of a scatter: simplified Liu or Henyey–Greenstein.
static float scatter_angle(float choice, float u)
{
	if (choice < LIU_SHARE)
		return 2.0f * pow(u, (1.0f - SCATTER_G) / (1.0f + SCATTER_G)) - 1.0f;
	float t = (1.0f - SCATTER_G * SCATTER_G) / (1.0f + SCATTER_G * (2.0f * u - 1.0f));
	return (1.0f + SCATTER_G * SCATTER_G - t * t) / (2.0f * SCATTER_G);
}

// near is the string that a path of at most PATH_LIMIT from p can touch, or -1.
static int near(global const char *cell, float3 p)
{
	int column = (int)((p.x + WALK_RADIUS) / CELL), row = (int)((p.y + WALK_RADIUS) / CELL);
	if (column < 0 || row < 0 || column >= GRID || row >= GRID)
		return -1;
	return cell[row * GRID + column];
}

// touch is the first sensor of the string at (sx, sy) on a path, or -1, and how far
// along the path enters it.
static int touch(float sx, float sy, float3 p, float3 d, float length, float *along)
{
	float px = p.x - sx, py = p.y - sy;
	float across = d.x * d.x + d.y * d.y, ex = px, ey = py;
	if (across > 0.0f) {
		float t = fmin(fmax(-(px * d.x + py * d.y) / across, 0.0f), length);
		ex += t * d.x;
		ey += t * d.y;
	}
	if (ex * ex + ey * ey > RADIUS * RADIUS)
		return -1;
	float end = p.z + d.z * length;
	int first = max((int)ceil((TOP_SENSOR - fmax(p.z, end) - RADIUS) / SENSOR_SPACING), 0);
	int last = min((int)floor((TOP_SENSOR - fmin(p.z, end) + RADIUS) / SENSOR_SPACING), SENSORS - 1);
	int sensor = -1;
	*along = length;
	for (int k = first; k <= last; k++) {
		float pz = p.z - (TOP_SENSOR - SENSOR_SPACING * (float)k);
		float b = px * d.x + py * d.y + pz * d.z;
		float c = px * px + py * py + pz * pz - RADIUS * RADIUS;
		if (c <= 0.0f) {
			*along = 0.0f;
			return k;
		}
		float discriminant = b * b - c;
		if (discriminant >= 0.0f) {
			float t = -b - sqrt(discriminant);
			if (t >= 0.0f && t <= *along) {
				sensor = k;
				*along = t;
			}
		}
	}
	return sensor;
}

// propagate follows the photons first to first+count-1. Step i has the photons from
// firsts[i] to firsts[i+1]-1. Of each hit five words go to hits, in any order: the
// photon less first; string, sensor and bin, a byte each; time; cosine; scatters.
// ends counts hits, absorbed and escaped photons.
kernel void propagate(
	global const float *scatters, global const float *absorbs, // 1/m, [bin*LAYERS+layer]
	global const float *slowness, // ns/m, by bin
	global const float *cumulative, global const float *cherenkov, // by bin
	global const float *sx, global const float *sy, // m, by string
	global const char *cell, // string or -1, [row*GRID+column]
	global const float *steps, // x y z dx dy dz time length, by step
	global const int *shapes, // -1 for a track, else a shower's shape, by step
	global const ulong *firsts, int step_count,
	uint2 seed, ulong first, uint count, global uint *hits, global uint *ends)
{
	uint place = (uint)get_global_id(0);
	if (place >= count)
		return;
	ulong id = first + place;

	int low = 0, high = step_count - 1;
	while (low < high) {
		int middle = (low + high) / 2;
		if (firsts[middle + 1] > id)
			high = middle;
		else
			low = middle + 1;
	}
	global const float *s = steps + 8 * low;
	int shape = shapes[low];

	uint4 r = block(seed, id, 0, STREAM_BIRTH);
	uint4 q = block(seed, id, 1, STREAM_BIRTH);
	float quantile = uniform(r.x);
	int bin = 0;
	while (bin < BINS - 1 && cumulative[bin] < quantile)
		bin++;
	float along = s[7] * uniform(r.y);
	if (shape > 0) {
		uint4 w = block(seed, id, 2, STREAM_BIRTH), v = block(seed, id, 3, STREAM_BIRTH);
		uint words[8] = {w.x, w.y, w.z, w.w, v.x, v.y, v.z, v.w};
		float sum = 0.0f;
		for (int k = 0; k < shape; k++)
			sum -= log(uniform(words[k]));
		along += SHOWER_SCALE * sum;
	}
	float3 axis = (float3)(s[3], s[4], s[5]), d = axis;
	if (shape >= 0)
		d = turn(d, shower_angle(uniform(r.z)), uniform(r.w));
	d = turn(d, cherenkov[bin], uniform(q.x));
	float3 p = (float3)(s[0], s[1], s[2]) + along * axis;
	float time = s[6] + along / SPEED;
	float left = -log(uniform(q.y));

	scatters += bin * LAYERS;
	absorbs += bin * LAYERS;
	float slow = slowness[bin];
	int layer = (int)floor((TOP - p.z) / LAYER_HEIGHT);
	for (uint n = 0;; n++) {
		uint4 words = block(seed, id, n, STREAM_WALK);
		float path = -log(uniform(words.x)); // in scattering lengths
		while (path > 0.0f) {
			if (layer < 0 || layer >= LAYERS || p.x * p.x + p.y * p.y > WALK_RADIUS * WALK_RADIUS || fabs(p.z) > WALK_HEIGHT) {
				atomic_inc(&ends[2]);
				return;
			}
			float scatter = scatters[layer], absorb = absorbs[layer];
			float length = PATH_LIMIT;
			int next = layer;
			if (d.z != 0.0f) {
				int below = d.z < 0.0f;
				float face = (TOP - LAYER_HEIGHT * (float)(layer + below) - p.z) / d.z;
				if (face < length) {
					length = fmax(face, 0.0f);
					next = below ? layer + 1 : layer - 1;
				}
			}
			int scattered = 0, absorbed = 0;
			if (path / scatter < length) {
				length = path / scatter;
				next = layer;
				scattered = 1;
			}
			if (left / absorb < length) {
				length = left / absorb;
				absorbed = 1;
			}
			int string = near(cell, p);
			if (string >= 0) {
				float entry;
				int sensor = touch(sx[string], sy[string], p, d, length, &entry);
				if (sensor >= 0) {
					global uint *hit = hits + 5 * atomic_inc(&ends[0]);
					hit[0] = place;
					hit[1] = (uint)string | (uint)sensor << 8 | (uint)bin << 16;
					hit[2] = as_uint(time + entry * slow);
					hit[3] = as_uint(d.z);
					hit[4] = n;
					return;
				}
			}
			p += length * d;
			time += length * slow;
			if (absorbed) {
				atomic_inc(&ends[1]);
				return;
			}
			left -= length * absorb;
			path -= length * scatter;
			if (scattered)
				break;
			layer = next;
		}
		d = turn(d, scatter_angle(uniform(words.y), uniform(words.z)), uniform(words.w));
	}
}
