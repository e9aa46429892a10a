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
		"a certificate alone": {[]string{"--tls-cert-file=a", "--tls-key-file=b"}, "--client-ca-file are needed together"},
		"files and a Secret": {
			[]string{"--tls-cert-file=a", "--tls-key-file=b", "--client-ca-file=c", "--server-secret=d"},
			"--server-secret is about certificates that the provider issues",
		},
		"no TLS and a Secret": {
			[]string{"--insecure", "--client-secret=d"}, "--client-secret is about certificates that the provider issues",
		},
		"nobody to answer": {
			[]string{"--client-names="}, "--client-names is empty; it must have the name of Cluster Autoscaler's certificate",
		},
		"a server without a name": {[]string{"--tls-services="}, "--tls-services and --tls-extra-names are both empty"},
		"a Secret elsewhere": {
			[]string{"--server-secret=a/b"}, `--server-secret is "a/b"; it must be the name of a Secret in the provider's namespace`,
		},
		"a Secret nowhere": {[]string{"--client-secret=/b"}, `--client-secret is "/b"; it must be NAME or NAMESPACE/NAME`},
		"renewed before it is issued": {
			[]string{"--certificate-lifetime=1h", "--certificate-renew-before=2h"},
			"--certificate-renew-before is 2h0m0s; it must be positive and shorter than --certificate-lifetime, 1h0m0s",
		},
		"a short-lived authority": {
			[]string{"--authority-lifetime=24h"}, "--authority-lifetime is 24h0m0s; it must be at least twice --certificate-lifetime, 8760h0m0s",
		},
		"TLS and none":   {[]string{"--insecure", "--tls-cert-file=a"}, "contradict each other"},
		"no time at all": {[]string{"--insecure", "--max-staleness=10ms"}, "--max-staleness is 10ms; it must be at least 1s"},
		"a negative time": {
			[]string{"--insecure", "--release-announce-timeout=-1s"}, "--release-announce-timeout is -1s; it must not be negative",
		},
		"a time that is none": {
			[]string{"--release-announce-timeout=soon"}, `invalid argument "soon" for "--release-announce-timeout"`,
		},
		"a negative rate": {
			[]string{"--insecure", "--max-requests-per-second=-1"}, "--max-requests-per-second is -1; it must not be negative",
		},
		"a rate without a burst": {[]string{"--insecure", "--max-request-burst=0"}, "--max-request-burst is 0; it must be at least 1"},
		"requests of no size":    {[]string{"--insecure", "--max-request-bytes=0"}, "--max-request-bytes is 0; it must be at least 1024"},
		"connections below none": {
			[]string{"--insecure", "--max-connections=-1"}, "--max-connections is -1; it must be a number of connections, or 0 for no limit",
		},
		"more from one than from all": {
			[]string{"--insecure", "--max-connections=4"}, "--max-connections-per-address is 16; it must be at most --max-connections, 4",
		},
		"no unfinished requests": {
			[]string{"--insecure", "--max-unfinished-requests=-1"}, "--max-unfinished-requests is -1; it must be a number of requests",
		},
		"a message at once": {
			[]string{"--insecure", "--request-read-timeout=0"}, "--request-read-timeout is 0s; it must be at least 1s",
		},
		"no time to shake hands": {
			[]string{"--insecure", "--connection-handshake-timeout=1ms"}, "--connection-handshake-timeout is 1ms; it must be at least 1s",
		},
		"hardly idle": {
			[]string{"--insecure", "--connection-idle-timeout=1ms"}, "--connection-idle-timeout is 1ms; it must be at least 1s, or 0 for ever",
		},
		"a short life": {
			[]string{"--insecure", "--connection-max-age=1ms"}, "--connection-max-age is 1ms; it must be at least 1s, or 0 for ever",
		},
		"an expander for nobody": {
			[]string{"--insecure", "--max-expander-connections=0"}, "--max-expander-connections is 0; it must be at least 1",
		},
		"no request at a time": {
			[]string{"--insecure", "--max-concurrent-requests=0"}, "--max-concurrent-requests is 0; it must be from 1 to 1048576",
		},
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
