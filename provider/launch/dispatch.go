package launch

import (
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Launchers are the launchers of a process, by the field of spec.machines that stands for each.
type Launchers struct {
	Kwok Launcher
}

// For is the launcher of a pool's machines. The error names what this process has no launcher for.
func (l *Launchers) For(machines *v1alpha1.MachinesSpec) (Launcher, error) {
	if machines.Kwok != nil && l.Kwok != nil {
		return l.Kwok, nil
	}
	return nil, fmt.Errorf("spec.machines names no backend that this provider has; it has: kwok")
}

// Objects are the kinds that all launchers want to hear of.
func (l *Launchers) Objects() []client.Object {
	var out []client.Object
	for _, launcher := range []Launcher{l.Kwok} {
		if launcher != nil {
			out = append(out, launcher.Objects()...)
		}
	}
	return out
}
