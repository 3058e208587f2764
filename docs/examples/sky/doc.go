// Package sky is an example of floe: a search for hot spots in a map of the
// gamma-ray sky, with hundreds of jobs of background trials and their merge.
// README.md tells how to run it and what was found; the work is done by the
// command in hotspot, which reads the map with package fits.
package sky
