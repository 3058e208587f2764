// Package expr evaluates the expressions of the dataset language (paper
// §3.1.3): $steering(name), $eval(1+2), $sprintf("%06d",$(job)) and their like,
// with which one steering file describes all jobs of a dataset.
//
// Its nouns: a text holds phrases ($name(body)[key], see phrase.go); a Scope
// answers what names mean; Expand replaces every phrase by its Value; $eval
// bodies are expressions of a part of Python (below); a Place is where a text
// stands in the document, which decides what a $choice there draws.
//
// The part of Python: integers of any size, floats, text, True, False, None,
// lists, tuples and dicts with text keys; + - * / // % ** ^ & | << >> ~, chained
// comparisons, in, and, or, not, x if c else y, indexing and slices, text %
// values, and the functions of call.go. No names, attributes, loops, lambdas,
// comprehensions or imports. python3 is authoritative for what these mean: a
// test compares thousands of random expressions with it. Three things differ
// on purpose: complex numbers are refused; powers and logarithms of floats are
// rounded correctly, where a libm may be off by the last digit; "/" between
// integers follows Python 2 if the dataset says so.
//
// Invariants: Expand is a pure function of value, place, what the scope
// answers, and Options, on every processor, so that coordinator and pilot see
// the same job; Result.Sources names what it depended on. Values, once made,
// are not changed. The bounds in limits.go hold for any input: nothing panics,
// and neither time nor memory runs away.
//
// A phrase without a value (an unknown name, a syntax error, a limit) is left
// as it stands, with what inside it could be expanded, and listed in
// Result.Unresolved; whether that is an error is the caller's decision.
//
// The package does not know steering documents; package steering builds the
// scopes. docs/steering.md tells users about all this.
package expr
