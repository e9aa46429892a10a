package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestMissing: a cluster without the kinds of a backend is an error that says what to install.
func TestMissing(t *testing.T) {
	t.Parallel()
	noKind := fmt.Errorf("set up the manager: %w", &meta.NoKindMatchError{
		GroupKind: schema.GroupKind{Group: "karpenter.sh", Kind: "NodeClaim"}, SearchedVersions: []string{"v1"},
	})
	with, without := &BackendsConfig{Karpenter: true}, &BackendsConfig{}
	if err := with.missing(noKind); !errors.Is(err, noKind) || !strings.Contains(err.Error(), "install Karpenter") {
		t.Errorf("with --karpenter it is %v", err)
	}
	if err := without.missing(noKind); !errors.Is(err, noKind) || strings.Contains(err.Error(), "install") {
		t.Errorf("without it is %v", err)
	}
}
