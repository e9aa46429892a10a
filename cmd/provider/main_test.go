package main

import (
	"io"
	"strings"
	"testing"
)

// TestRefusedFlags: what cannot be meant is refused before anything is started, and TLS is left out only by
// somebody who says so.
func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"nothing about TLS":              {nil, "--tls-cert-file, --tls-key-file and --client-ca-file are needed for mutual TLS with Cluster Autoscaler (--insecure serves without)"},
		"a certificate alone":            {[]string{"--tls-cert-file=a", "--tls-key-file=b"}, "--client-ca-file are needed"},
		"TLS and none":                   {[]string{"--insecure", "--tls-cert-file=a"}, "contradict each other"},
		"no time at all":                 {[]string{"--insecure", "--max-staleness=10ms"}, "--max-staleness is 10ms; it must be at least 1s"},
		"a negative time":                {[]string{"--insecure", "--release-announce-timeout=-1s"}, "--release-announce-timeout is -1s; it must not be negative"},
		"a time that is none":            {[]string{"--release-announce-timeout=soon"}, `invalid argument "soon" for "--release-announce-timeout"`},
		"a negative rate":                {[]string{"--insecure", "--max-requests-per-second=-1"}, "--max-requests-per-second is -1; it must not be negative"},
		"a rate without a burst":         {[]string{"--insecure", "--max-request-burst=0"}, "--max-request-burst is 0; it must be at least 1"},
		"requests of no size":            {[]string{"--insecure", "--max-request-bytes=0"}, "--max-request-bytes is 0; it must be at least 1024"},
		"no request at a time":           {[]string{"--insecure", "--max-concurrent-requests=0"}, "--max-concurrent-requests is 0; it must be from 1 to 1048576"},
		"an unknown flag":                {[]string{"--tls=no"}, "unknown flag: --tls"},
		"a word":                         {[]string{"now"}, `unknown command "now"`},
		"a kubeconfig that is not there": {[]string{"--insecure", "--kubeconfig=/nowhere"}, `load --kubeconfig "/nowhere"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command()
			cmd.SetArgs(append([]string{}, row.args...))
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			err := cmd.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}
