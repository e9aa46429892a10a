package pool

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Indexes of the cache. They keep a pass over one pool from touching what belongs to others.
const (
	indexNodeName   = "spec.nodeName"
	indexReservedIn = "status.reservations.nodePool"
)

// AddIndexes prepares a cache for an Observer.
func AddIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range []struct {
		kind   client.Object
		field  string
		values client.IndexerFunc
	}{
		{&v1alpha1.EnsembleMember{}, indexReservedIn, reservedIn},
	} {
		if err := indexer.IndexField(ctx, index.kind, index.field, index.values); err != nil {
			return fmt.Errorf("index %T by %s: %w", index.kind, index.field, err)
		}
	}
	return nil
}

// reservedIn names the pools that a member has reservations in.
func reservedIn(o client.Object) []string {
	member, ok := o.(*v1alpha1.EnsembleMember)
	if !ok {
		return nil
	}
	var pools []string
	for i := range member.Status.Reservations {
		pools = append(pools, member.Status.Reservations[i].NodePool)
	}
	return pools
}
