package steering

// Lint warns of what a document may hold and its author probably did not mean:
// phrases that nothing resolves, divisions that Python 2 and 3 read differently,
// and seeds that come twice among jobs, tasks or the other datasets.
func Lint(doc *Document, in CompileInput, others []LiveDataset) Problems {
	return append(LintExpressions(doc), SeedCollisions(doc, in, others)...).Sort()
}

// Quote gives problems that were found in a document of this file the file's
// name and the lines they are about.
func (s *Source) Quote(problems Problems) Problems {
	quoted := make(Problems, 0, len(problems))
	for _, p := range problems {
		at := Position{Line: p.Line, Column: p.Column}
		quoted = append(quoted, s.Problem(at, p.Severity, p.Message, p.Suggestion))
	}
	return quoted
}
