// Package iceprod reads the INI file that configured a site of IceProd and writes it
// as a site.toml: the paper's three sections (§5.4), queueing options, system
// parameters and job environment.
//
// Nouns: a [Line] is a key of the old file and what became of it; an [Import] is the
// new file and all lines.
//
// The syntax is that of Python 2's ConfigParser: "=" or ":" behind keys, values that go
// on in indented lines, %(name)s from the same section or [DEFAULT].
//
// Every key is accounted for: carried to a key of the new file, or not, with the reason.
// Nothing is guessed: a number without a unit is left to the reader. System parameters
// become values of $system, which payloads read, so what looks like a secret is left out.
package iceprod
