// Command photon-propagate carries Cherenkov light from muons to sensors
// through South Pole ice: the middle task of the DAG in Figure 8 of the paper.
//
// Its nouns: a muon crosses the ice and becomes light steps (light.go, a
// stretch of track or a shower that emits a Poisson number of photons); a
// photon is born on a step and walks from scatter to scatter through layers of
// ice (ice.go) until it is absorbed, escapes or reaches a sensor of the array
// (array.go), which makes a hit (files.go).
//
// # Cores and cards
//
// walk in kernel.go is the whole kernel: a pure function of (seed, medium, array,
// bunch). Cores run it in threads. A card runs kernel.cl, one work-item for a photon,
// which card.go compiles with the constants and feeds with the tables of this program;
// card.py carries both to OpenCL. The two share
//
//   - the photon numbers: photon n of a job is the n-th photon of its light
//     steps, counted over steps in order (Step.First);
//   - the counters: random block k of photon n is Philox4x32-10 with key =
//     seed (low word, high word) and counter = (n low, n high, k, stream);
//     blocks 0–3 of streamBirth give it birth, and block k of streamWalk is
//     scatter k: word 0 the path, 1 the choice of phase function, 2 the polar,
//     3 the azimuthal angle;
//   - hits keyed by photon number, so that any order of threads or work-items
//     sorts to the same file;
//   - the file of files.go, and every hit's weight.
//
// # Rounding
//
// Cores compute in float64, a card in float32, which every card has and most are fast
// in. A photon's way is a continuous function of its random words, so rounding moves
// it and its time by little: some 0.1 ns at most in the tests. Only a photon that
// grazes a sensor, or is absorbed beside one, may have another end; of 28,000 hits none
// had. Times in the file differ in their last digits.
//
// The same input, seed and device give the same bytes, with any number of threads or
// order of work-items. Devices differ: Go may fuse a multiplication and an addition
// on arm64, not on amd64; OpenCL lets a compiler do so, and allows log, pow, exp and
// sincos errors of 3 to 16 units in the last place. Nothing looser is asked for: no
// -cl-fast-relaxed-math, no native_ functions.
//
// What is simplified: muons run straight, without multiple scattering; there is
// no ice tilt, no anisotropy and no hole ice but for the sensors' angular
// acceptance; all strings have the standard spacing of 17 m; light steps
// outside the emission volume of array.go are dropped; all sensors are enlarged
// by the oversize factor, which shortens arrival times by at most their radius
// over the speed of light (11 ns at the default of 20). The ice is a coarse
// profile of depth (ice.go), no fitted model.
package main
