// Package fits reads the images of FITS files, as much of the standard (FITS
// 4.0, A&A 524 (2010) A42) as a counts map of the sky needs: primary arrays and
// IMAGE extensions in all six BITPIX, BSCALE and BZERO, the CHECKSUM and DATASUM
// convention, and celestial coordinates in the projections CAR and TAN.
//
// Its nouns: a file is a list of HDUs; an HDU has a Header of cards and a data
// unit; an Image is a data unit's values; a WCS ties pixels to the sky.
//
// Read verifies structure, not content: Verify compares an HDU with its own
// checksums, and says which of them are absent or do not match. Sizes are
// bounded, so that a damaged header cannot ask for more memory than the file
// has bytes. It is not a FITS library: tables, compressed images and other
// projections are refused by name.
package fits
