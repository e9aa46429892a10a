package process

import (
	"strings"
	"testing"
)

// TestRESTConfig: a kubeconfig that cannot be loaded is told by the flag that names it.
func TestRESTConfig(t *testing.T) {
	if _, err := RESTConfig(
		"machines-kubeconfig", "/nowhere", "test",
	); err == nil || !strings.HasPrefix(err.Error(), `load --machines-kubeconfig "/nowhere": `) {
		t.Errorf("%v", err)
	}
}
