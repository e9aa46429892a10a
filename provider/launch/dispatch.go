package launch

import (
	"errors"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Launchers are the launchers of a process, by the field of spec.machines that stands for each. One that it does not have is nil.
type Launchers struct {
	Kwok, Karpenter, ClusterAPI Launcher
}

// Place is where some machines of a pool are: one listing shows all that are there.
type Place struct {
	Launcher Launcher
	// Within tells the places of one launcher apart.
	Within string
}

var (
	errNoBackend    = errors.New("spec.machines names no backend that this provider knows; it knows kwok, karpenter and clusterAPI")
	errNoKwok       = errors.New("spec.machines.kwok is set, and this provider runs without --kwok (manifests/components/kwok)")
	errNoKarpenter  = errors.New("spec.machines.karpenter is set, and this provider runs without --karpenter (manifests/components/karpenter)")
	errNoClusterAPI = errors.New(
		"spec.machines.clusterAPI is set, and this provider runs without --cluster-api (manifests/components/cluster-api)",
	)
)

// For is the launcher of a pool's machines. The error names what this process has no launcher for.
func (l *Launchers) For(machines *v1alpha1.MachinesSpec) (Launcher, error) {
	place, err := l.PlaceOf(machines)
	return place.Launcher, err
}

// PlaceOf is where a pool's machines are. The error names what this process has no launcher for.
func (l *Launchers) PlaceOf(machines *v1alpha1.MachinesSpec) (Place, error) {
	var place Place
	var none error
	switch {
	case machines.Kwok != nil:
		place, none = Place{Launcher: l.Kwok}, errNoKwok
	case machines.Karpenter != nil:
		place, none = Place{Launcher: l.Karpenter}, errNoKarpenter
	case machines.ClusterAPI != nil:
		place, none = Place{Launcher: l.ClusterAPI, Within: machines.ClusterAPI.Namespace}, errNoClusterAPI
	default:
		none = errNoBackend
	}
	if place.Launcher == nil {
		return Place{}, none
	}
	return place, nil
}

// Finders are the launchers that can tell of which pools there are instances.
func (l *Launchers) Finders() []Finder {
	var out []Finder
	for _, launcher := range l.all() {
		if finder, is := launcher.(Finder); is {
			out = append(out, finder)
		}
	}
	return out
}

// all are the launchers that this process has.
func (l *Launchers) all() []Launcher {
	return slices.DeleteFunc([]Launcher{l.Kwok, l.Karpenter, l.ClusterAPI}, func(launcher Launcher) bool { return launcher == nil })
}

// Watch is a kind whose events concern machines, and the cache that hears of them: nil for the manager's.
type Watch struct {
	Object client.Object
	Cache  cache.Cache
}

// Watches are the kinds that all launchers want to hear of.
func (l *Launchers) Watches() []Watch {
	var out []Watch
	for _, launcher := range l.all() {
		var own cache.Cache
		if cached, is := launcher.(Cached); is {
			own = cached.Cache()
		}
		for _, object := range launcher.Objects() {
			out = append(out, Watch{Object: object, Cache: own})
		}
	}
	return out
}
