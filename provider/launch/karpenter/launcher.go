// Package karpenter makes machines by Karpenter: each is a NodeClaim (karpenter.sh/v1) of its own, which has the name of the machine
// and belongs to no NodePool of Karpenter. Karpenter then asks its cloud for an instance, and tells in the claim what has become of
// it. Facts about Karpenter in this package are from the sources of sigs.k8s.io/karpenter v1.14.1, by the names of its files.
//
//   - nodeclaim.go: the claim, and what it says of a machine;
//   - order.go: claims are created, by name;
//   - list.go: claims are read, and why they have failed;
//   - events.go: the events of Karpenter that say that there was no machine;
//   - memory.go: since when this process has seen a claim that will hardly get a machine;
//   - terminate.go: claims are deleted;
//   - orphans.go: nodes that register when their claim is gone are deleted.
package karpenter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// indexPool is the index of the cache over NodeClaims by the name of their pool.
const indexPool = "nodeclaims-by-pool"

const (
	// cacheLag is how far the cache, which listings are made from, may be behind the API server.
	cacheLag = 5 * time.Second
	// replaceAfter is how long a failed machine is not replaced: the provider for AWS remembers for three minutes that there was
	// no instance of a type, and claims that come and go keep all of Karpenter waiting.
	replaceAfter = 3 * time.Minute
	// inParallel is how many claims of one call are made or deleted at a time.
	inParallel = 16
)

// Launcher makes the machines of pools whose spec.machines.karpenter is set exist and go.
type Launcher struct {
	claims toolscache.Indexer
	client client.Client
	live   client.Reader
	clock  clock.PassiveClock
	memory memory
}

var _ launch.Finder = (*Launcher)(nil)

// errNoKind is a cluster without Karpenter.
var errNoKind = errors.New("the API server knows no NodeClaim of karpenter.sh/v1: install Karpenter 1.0 or later with its definitions " +
	"(nodeclaims.karpenter.sh), or run the provider without --karpenter")

// Missing is an error that says what to install where an error comes from a cluster without Karpenter, and that error itself else.
func Missing(err error) error {
	// It depends on whether the group is known at all.
	kind, noKind := errors.AsType[*meta.NoKindMatchError](err)
	resource, noResource := errors.AsType[*meta.NoResourceMatchError](err)
	if (noKind && kind.GroupKind.Group == GroupVersion.Group) || (noResource && resource.PartialResource.Group == GroupVersion.Group) {
		return fmt.Errorf("%w (%w)", errNoKind, err)
	}
	return err
}

// Cached is what of NodeClaims is kept in memory: those that were made for machines, and not those of Karpenter's own NodePools.
func Cached() (client.Object, cache.ByObject, error) {
	ofPools, err := labels.NewRequirement(v1alpha1.LabelNodePool, selection.Exists, nil)
	if err != nil {
		return nil, cache.ByObject{}, fmt.Errorf("select NodeClaims of pools: %w", err)
	}
	return &NodeClaim{}, cache.ByObject{Label: labels.NewSelector().Add(*ofPools)}, nil
}

// New returns a launcher of a manager that has not been started yet, and whose scheme has the kinds of this package.
func New(ctx context.Context, mgr manager.Manager) (*Launcher, error) {
	informer, err := mgr.GetCache().GetInformer(ctx, &NodeClaim{})
	if err != nil {
		return nil, fmt.Errorf("watch NodeClaims: %w", Missing(err))
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("watch NodeClaims: the cache has a %T, which has no index", informer)
	}
	if err := shared.AddIndexers(toolscache.Indexers{indexPool: byPool}); err != nil {
		return nil, fmt.Errorf("index NodeClaims: %w", err)
	}
	return &Launcher{claims: shared.GetIndexer(), client: mgr.GetClient(), live: mgr.GetAPIReader(), clock: clock.RealClock{}}, nil
}

func byPool(object any) ([]string, error) {
	claim, ok := object.(*NodeClaim)
	if !ok || claim.Labels[v1alpha1.LabelNodePool] == "" {
		return nil, nil
	}
	return []string{claim.Labels[v1alpha1.LabelNodePool]}, nil
}

// Traits implements launch.Launcher. A claim has the name of its machine, and a second one of that name is refused.
func (l *Launcher) Traits(*launch.Pool) launch.Traits {
	return launch.Traits{ByName: true, Tainted: true, Poll: time.Minute, Lag: cacheLag, ReplaceAfter: replaceAfter}
}

// Objects implements launch.Launcher.
func (l *Launcher) Objects() []client.Object { return []client.Object{&NodeClaim{}} }

// errNoConfig is the error of a call about a pool of another kind of cloud.
var errNoConfig = errors.New("spec.machines.karpenter is not set")
