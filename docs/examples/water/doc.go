// Package water holds the example of a foreign program; see README.md. Its tests
// need GROMACS only with -whole.
package water
