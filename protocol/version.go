package protocol

// Version is floe's version, set by the release build with -ldflags -X. Its first two
// numbers name the wire samples that are its own, see wiretest.
var Version = "0.1.0-dev"

// LanguageVersion is the version of the dataset language this build accepts.
const LanguageVersion = 1
