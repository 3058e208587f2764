package protocol

import "testing"

func TestNodesByTheirNames(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		asked, host string
		want        bool
	}{
		{"", "n7", true},
		{"n7", "n7", true},
		{"n7", "n7.example.org", true},
		{"n7.example.org", "n7", true},
		{"n7.example.org", "n7.example.org", true},
		{"n7", "n77", false},
		{"n7.example.org", "n7.other.org", false},
	} {
		if SameHost(x.asked, x.host) != x.want {
			t.Errorf("SameHost(%q, %q) = %v", x.asked, x.host, !x.want)
		}
	}
}
