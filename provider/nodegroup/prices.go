package nodegroup

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// ErrNoPrice is returned where no pool has a price.
var ErrNoPrice = errors.New("no NodePool has a pricePerHour")

// NodePrice is the price of a machine of a pool for a time: linear, in the currency of spec.pricePerHour. The
// error is ErrNoPrice for a pool without a price.
func NodePrice(pool *v1alpha1.NodePool, span time.Duration) (float64, error) {
	if pool.Spec.PricePerHour == nil {
		return 0, fmt.Errorf("NodePool %s: %w", pool.Name, ErrNoPrice)
	}
	return pool.Spec.PricePerHour.AsApproximateFloat64() * span.Hours(), nil
}

// PodNeeds is what a pod asks of a node.
type PodNeeds struct {
	Requests     corev1.ResourceList
	Tolerations  []corev1.Toleration
	NodeSelector map[string]string
}

// PriceList answers what pods cost. It is recreated when a pool changes, so that an answer costs little.
type PriceList struct {
	// offers are those of the pools that have a price, the cheapest first.
	offers []offer
}

// offer is the empty node of a pool, and its price.
type offer struct {
	pool        *v1alpha1.NodePool
	taints      []corev1.Taint
	allocatable corev1.ResourceList
}

// NewPriceList makes the list of pools, which must not be changed any more.
func NewPriceList(pools []*v1alpha1.NodePool) *PriceList {
	list := &PriceList{}
	for _, p := range pools {
		if p.Spec.PricePerHour == nil {
			continue
		}
		o := offer{pool: p, allocatable: p.Spec.Template.Capacity}
		if len(p.Spec.Template.Allocatable) > 0 {
			o.allocatable = p.Spec.Template.AllocatableOrCapacity()
		}
		for _, taint := range p.Spec.Template.Taints {
			if taint.Effect != corev1.TaintEffectPreferNoSchedule {
				o.taints = append(o.taints, taint)
			}
		}
		list.offers = append(list.offers, o)
	}
	slices.SortFunc(list.offers, func(a, b offer) int {
		return cmp.Or(a.pool.Spec.PricePerHour.Cmp(*b.pool.Spec.PricePerHour), cmp.Compare(a.pool.Name, b.pool.Name))
	})
	return list
}

// PodPrice is the price of a pod for a time: its dominant share of the cheapest pool whose empty node can take it.
// The error is ErrNoPrice when no pool has a price, and a *Refusal when none of those that have one fits.
func (l *PriceList) PodPrice(needs *PodNeeds, span time.Duration) (float64, error) {
	if len(l.offers) == 0 {
		return 0, ErrNoPrice
	}
	for i := range l.offers {
		if share, fits := needs.share(&l.offers[i]); fits {
			price, err := NodePrice(l.offers[i].pool, span)
			return price * share, err
		}
	}
	return 0, refuse(Forbidden, "the pod fits an empty node of none of the %d NodePools that have a pricePerHour", len(l.offers))
}

// share is the largest part of any resource of an empty node that the pod requests, and whether it fits.
func (n *PodNeeds) share(o *offer) (share float64, fits bool) {
	for key, value := range n.NodeSelector {
		if templateLabel(o.pool, key) != value {
			return 0, false
		}
	}
	for i := range o.taints {
		if !v1alpha1.Tolerates(n.Tolerations, &o.taints[i]) {
			return 0, false
		}
	}
	for name, request := range n.Requests {
		available := o.allocatable[name]
		if request.Sign() <= 0 {
			continue
		}
		if request.Cmp(available) > 0 {
			return 0, false
		}
		share = max(share, request.AsApproximateFloat64()/available.AsApproximateFloat64())
	}
	return share, true
}
