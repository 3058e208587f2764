// Command photon-propagate carries Cherenkov light from muons to sensors
// through South Pole ice: the middle task of the DAG in Figure 8 of the paper.
//
// Its nouns: a muon crosses the ice and becomes light steps (light.go, a
// stretch of track or a shower that emits a Poisson number of photons); a
// photon is born on a step and walks from scatter to scatter through layers of
// ice (ice.go) until it is absorbed, escapes or reaches a sensor of the array
// (array.go), which makes a hit (hits.go).
//
// # What a GPU version must reproduce
//
// walk in kernel.go is the whole kernel: a pure function of (seed, medium,
// array, bunch) that one GPU thread per photon can run. A port keeps
//
//   - the photon numbers: photon n of a job is the n-th photon of its light
//     steps, counted over steps in order (Step.First);
//   - the counters: random block k of photon n is Philox4x32-10 with key =
//     seed (low word, high word) and counter = (n low, n high, k, stream);
//     blocks 0–2 of streamBirth give it birth, and block k of streamWalk is
//     scatter k: word 0 the path, 1 the choice of phase function, 2 the polar,
//     3 the azimuthal angle;
//   - the bunch as a structure of arrays, and hits keyed by photon number, so
//     that any order of threads sorts to the same file;
//   - the file of hits.go, and every hit's weight.
//
// A kernel in float64 with correctly rounded log, exp and sincos reproduces
// the hits photon by photon; one in float32 reproduces them in distribution
// (the tests of physics_test.go are the measure), because a photon whose path
// differs in the last bit soon meets another layer.
//
// The same input, seed and processor architecture give the same bytes, with any
// number of threads. Architectures differ: Go may fuse a multiplication and
// an addition on arm64, not on amd64.
//
// What is simplified: muons run straight, without multiple scattering; there is
// no ice tilt, no anisotropy and no hole ice but for the sensors' angular
// acceptance; all strings have the standard spacing of 17 m; light steps
// outside the emission volume of array.go are dropped; all sensors are enlarged
// by the oversize factor, which shortens arrival times by at most their radius
// over the speed of light (11 ns at the default of 20). The ice is a coarse
// profile of depth (ice.go), no fitted model.
package main
