package docs

import (
	"regexp"
	"strings"
	"testing"
)

// TestVersions: the README says what is tested with which versions, and these are the ones.
func TestVersions(t *testing.T) {
	t.Parallel()
	said := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^\| (Kubernetes|Cluster Autoscaler|kwok) \| ([0-9.]+) \|`).FindAllStringSubmatch(
		string(read(t, "README.md")), -1,
	) {
		said[match[1]] = match[2]
	}
	for name, module := range map[string]struct{ file, path string }{
		"Kubernetes": {"test/harness/controlplane/kubernetes/go.mod", "k8s.io/kubernetes"},
		"kwok":       {"test/harness/controlplane/kubernetes/go.mod", "sigs.k8s.io/kwok"},
	} {
		pinned := regexp.MustCompile(regexp.QuoteMeta(module.path) + ` v(\S+)`).FindStringSubmatch(string(read(t, module.file)))
		if pinned == nil || said[name] != pinned[1] {
			t.Errorf("the README says %s %q, and the control plane of the tests has %q", name, said[name], pinned)
		}
	}
	if example := manifests(t).Version; said["Cluster Autoscaler"] != example {
		t.Errorf("the README says Cluster Autoscaler %q, and the example has %q", said["Cluster Autoscaler"], example)
	}
	const page = "docs/how-to/cluster-autoscaler.md"
	if text := string(read(t, page)); !strings.Contains(text, "--version "+chartVersion+" ") {
		t.Errorf("%s does not install version %s of the chart", page, chartVersion)
	}
}
