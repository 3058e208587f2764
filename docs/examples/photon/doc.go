// Package photon is an example of floe: the DAG of Figure 8 as a small Monte
// Carlo of muons in South Pole ice. README.md tells how to run it and what the
// physics is; this package holds only its tests, which run the chain without
// floe as photon.yaml describes it.
package photon
