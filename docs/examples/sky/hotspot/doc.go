// Command hotspot searches a counts map of the gamma-ray sky for hot spots.
//
// Its nouns: the background is a smooth template made from the map itself
// (background.go); the test statistic TS of a pixel is twice the logarithm of
// the likelihood ratio of a point source there on top of the background
// (search.go); a spot is a local maximum of TS; a trial is a map drawn from the
// background and searched in the same way, its own background included
// (trial.go); a report gives each spot of the real map its probability among
// the trials and its neighbour in a list of known sources (merge.go, figure.go,
// source.go).
//
//	hotspot trial -map FILE -seed N -trials N -output FILE
//	hotspot merge -map FILE -sources FILE -trials FOLDER -expect N -report FILE -figure FILE
//
// Both verify the map: its FITS checksums are compared with its content, and
// the sum of its data with the one given as -datasum. Same input and seed, same
// bytes on one processor architecture.
//
// What it is not: a likelihood fit of diffuse models and spectra. The template
// knows no gas clouds, so that structure of the Galactic plane narrower than the
// smoothing can stand out as a spot; the report leaves such spots unmatched.
package main
