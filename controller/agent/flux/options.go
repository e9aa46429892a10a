package flux

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// The defaults of Options.
const (
	DefaultMaxMessage     = 32 << 20
	DefaultMaxOutstanding = 128
	DefaultCallTimeout    = 10 * time.Second
	DefaultMinBackoff     = 50 * time.Millisecond
	DefaultMaxBackoff     = 2 * time.Second
)

// EnvURI is the variable in which Flux tells its programs the address of their broker.
const EnvURI = "FLUX_URI"

// maxSocketPath is what fits into an address of a unix socket, with the NUL byte that ends it.
const maxSocketPath = 107

// Options say how a Client works. Each field but URI has a default that its zero value stands for.
type Options struct {
	// URI is the address of the broker, local:// and the path of its socket. "" is the value of FLUX_URI.
	URI string
	// MaxMessage is the size in bytes that no message, read or written, may have more than. The default is 32 MiB: a list of 10,000
	// jobs with all attributes has about 10.
	MaxMessage int
	// MaxOutstanding is the number of calls that wait for an answer at once. Further ones wait for one of them. The default is 128.
	MaxOutstanding int
	// CallTimeout ends a call whose context has no deadline. The default is 10 s.
	CallTimeout time.Duration
	// MinBackoff and MaxBackoff are the pauses between two attempts to connect: the first, and what it grows to. The defaults are
	// 50 ms and 2 s.
	MinBackoff, MaxBackoff time.Duration
}

// complete fills in the defaults and checks the rest. path is that of the socket.
func (o Options) complete() (complete Options, path string, err error) {
	if o.URI == "" {
		o.URI = os.Getenv(EnvURI)
		if o.URI == "" {
			return o, "", fmt.Errorf("no address of a Flux broker: %s is not set, as it is in what Flux starts", EnvURI)
		}
	}
	path, err = socketPath(o.URI)
	if err != nil {
		return o, "", err
	}
	for _, number := range []struct {
		name  string
		value *int
		unset int
	}{
		{"MaxMessage", &o.MaxMessage, DefaultMaxMessage},
		{"MaxOutstanding", &o.MaxOutstanding, DefaultMaxOutstanding},
	} {
		if err := orDefault(number.name, number.value, number.unset); err != nil {
			return o, "", err
		}
	}
	for _, length := range []struct {
		name  string
		value *time.Duration
		unset time.Duration
	}{
		{"CallTimeout", &o.CallTimeout, DefaultCallTimeout},
		{"MinBackoff", &o.MinBackoff, DefaultMinBackoff},
		{"MaxBackoff", &o.MaxBackoff, max(DefaultMaxBackoff, o.MinBackoff)},
	} {
		if err := orDefault(length.name, length.value, length.unset); err != nil {
			return o, "", err
		}
	}
	if o.MaxBackoff < o.MinBackoff {
		return o, "", fmt.Errorf("MaxBackoff %s is less than MinBackoff %s", o.MaxBackoff, o.MinBackoff)
	}
	return o, path, nil
}

func orDefault[N int | time.Duration](name string, value *N, unset N) error {
	if *value < 0 {
		return fmt.Errorf("%s is %v: it has to be positive, or 0 for the default of %v", name, *value, unset)
	}
	if *value == 0 {
		*value = unset
	}
	return nil
}

// socketPath is the path in an address such as local:///run/flux/local.
func socketPath(uri string) (string, error) {
	path, isLocal := strings.CutPrefix(uri, "local://")
	if !isLocal {
		return "", fmt.Errorf("address %q of a Flux broker: it has to be local:// and the path of a socket", shorten(uri))
	}
	switch {
	case path == "":
		return "", fmt.Errorf("address %q of a Flux broker has no path of a socket", uri)
	case len(path) > maxSocketPath:
		return "", fmt.Errorf("address of a Flux broker: the path of its socket has %d bytes, and at most %d fit into an address: %q",
			len(path), maxSocketPath, shorten(path))
	}
	return path, nil
}

// shorten cuts what somebody else wrote to what a message can bear.
func shorten(text string) string {
	const limit = 200
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
