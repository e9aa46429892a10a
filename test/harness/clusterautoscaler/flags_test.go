package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFlagsOfTheRealProgramAreTaken(t *testing.T) {
	o, ignored, err := parseFlags([]string{
		"--kubeconfig=/k", "--cloud-provider", "externalgrpc", "--cloud-config=/c", "--scan-interval", "2s",
		"--enforce-node-group-min-size=true", "--v=4", "--logtostderr", "--namespace", "kube-system",
		"--leader-elect=false", "--expander=least-waste,random", "--scale-down-unneeded-time=1m",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.kubeconfig != "/k" || o.cloudConfig != "/c" || o.scanInterval != 2*time.Second || !o.enforceMinSize ||
		o.scaleDownUnneededTime != time.Minute {
		t.Errorf("options %+v", o)
	}
	if want := []string{"--v=4", "--logtostderr", "--namespace kube-system"}; !slices.Equal(ignored, want) {
		t.Errorf("without effect %q, want %q", ignored, want)
	}
}

func TestFlagsThatAreRefused(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"no cloud config":     {nil, "--cloud-config is missing"},
		"another provider":    {[]string{"--cloud-provider=aws", "--cloud-config=c"}, `"aws", only externalgrpc`},
		"leader election":     {[]string{"--leader-elect", "--cloud-config=c"}, "--leader-elect=false"},
		"grpc without a url":  {[]string{"--expander=grpc,random", "--cloud-config=c"}, "needs --grpc-expander-url and --grpc-expander-cert"},
		"grpc as the second":  {[]string{"--expander=random,grpc", "--cloud-config=c"}, "grpc is supported as the first one only"},
		"no scan interval":    {[]string{"--scan-interval=0s", "--cloud-config=c"}, "must be above 0"},
		"a malformed boolean": {[]string{"--scale-down-enabled=maybe", "--cloud-config=c"}, "maybe"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parseFlags(row.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}

func TestCloudConfigThatIsRefused(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"not YAML":            {"address: [", "parsing YAML"},
		"an address alone":    {"address: localhost", `address "localhost" is not host:port`},
		"a missing key file":  {"address: localhost:1\ncert: /none\nkey: /none", `loading cert "/none"`},
		"a timeout in digits": {"address: localhost:1\ngrpc_timeout: 5", "parsing YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cloud.yaml")
			if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := dial(path)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}

func TestCloudConfigSetsTheTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"address: localhost:1":                      5 * time.Second,
		"address: localhost:1\ngrpc_timeout: 250ms": 250 * time.Millisecond,
	} {
		path := filepath.Join(t.TempDir(), "cloud.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		connection, timeout, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
		if timeout != want {
			t.Errorf("timeout %s of %q, want %s", timeout, text, want)
		}
	}
}
