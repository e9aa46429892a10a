package budget

import "testing"

func TestSource(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "10.0.0.1:443": "10.0.0.1", "::ffff:10.0.0.1": "10.0.0.1", "[2001:db8:1:2:3:4:5:6]:443": "2001:db8:1:2::/64",
		"2001:db8:1:2::1%eth0": "2001:db8:1:2::/64", "a socket": "a socket", "tenant": "tenant",
	} {
		if got := Source(address); got != want {
			t.Errorf("%s counts for %s, want %s", address, got, want)
		}
	}
}
