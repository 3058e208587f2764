package batch

import (
	"errors"
	"strings"
	"testing"
)

// TestToolWithoutEnd is ended at the limit of what is kept, whichever way it prints.
func TestToolWithoutEnd(t *testing.T) {
	for _, to := range []string{"1", "2"} {
		a, err := Tool{System: "sge"}.Run(t.Context(), nil, "sh", "-c", "yes >&"+to)
		if a != nil || !errors.Is(err, ErrTransient) || !strings.Contains(err.Error(), "sge: sh -c yes >&"+to) || !strings.Contains(err.Error(), "more than 64 MiB") {
			t.Errorf("%+v, %v; want ErrTransient that names the tool and the limit", a, err)
		}
	}
}
