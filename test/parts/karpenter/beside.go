package karpenter

import (
	"context"
	"fmt"
	"io"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// Beside runs Karpenter beside a whole system, whose provider makes machines by it.
type Beside struct {
	*Karpenter
	// Progress receives what is being built.
	Progress io.Writer
}

// Prepare is for system.Options.
func (b *Beside) Prepare(ctx context.Context, s *system.System) (providerFlags []string, err error) {
	binary, err := Build(ctx, b.Progress)
	if err != nil {
		return nil, err
	}
	_, _ = fmt.Fprintln(b.Progress, "starting Karpenter") // Progress that nobody reads is no error.
	if err := Install(ctx, s.Plane); err != nil {
		return nil, err
	}
	rights, err := s.ObjectsOf("manifests/components/karpenter/rbac.yaml")
	if err != nil {
		return nil, err
	}
	if err := s.Apply(ctx, rights...); err != nil {
		return nil, err
	}
	b.Karpenter, err = Run(ctx, s.Plane, binary)
	return []string{"--karpenter"}, err
}
