package batchtest

import "context"

// T is what a part of the contract is told by; *testing.T is one. Its methods are
// those of package testing, which is not imported: floe batch test runs the
// contract, too.
type T interface {
	Helper()
	Log(args ...any)
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Skipf(format string, args ...any)
	TempDir() string
	Setenv(key, value string)
	Cleanup(do func())
	Context() context.Context
}

// Parent is a T that has parts, each told by one of its own kind.
type Parent[S any] interface {
	T
	Run(name string, part func(t S)) bool
}
