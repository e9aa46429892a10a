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

// PodPrice is the price of a pod for a time: its dominant share of the cheapest pool whose empty node can take it.
// The error is ErrNoPrice when no pool has a price, and a *Refusal when none of those that have one fits.
func PodPrice(needs *PodNeeds, pools []*v1alpha1.NodePool, span time.Duration) (float64, error) {
	priced := slices.DeleteFunc(slices.Clone(pools), func(p *v1alpha1.NodePool) bool { return p.Spec.PricePerHour == nil })
	if len(priced) == 0 {
		return 0, ErrNoPrice
	}
	slices.SortFunc(priced, func(a, b *v1alpha1.NodePool) int {
		return cmp.Or(a.Spec.PricePerHour.Cmp(*b.Spec.PricePerHour), cmp.Compare(a.Name, b.Name))
	})
	for _, pool := range priced {
		if share, fits := needs.share(pool); fits {
			price, err := NodePrice(pool, span)
			return price * share, err
		}
	}
	return 0, refuse(Forbidden, "the pod fits an empty node of none of the %d NodePools that have a pricePerHour", len(priced))
}

// share is the largest part of any resource of an empty node that the pod requests, and whether it fits.
func (n *PodNeeds) share(pool *v1alpha1.NodePool) (share float64, fits bool) {
	node := TemplateNode(pool)
	for key, value := range n.NodeSelector {
		if node.Labels[key] != value {
			return 0, false
		}
	}
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !slices.ContainsFunc(n.Tolerations, func(t corev1.Toleration) bool {
			return tolerates(&t, taint)
		}) {
			return 0, false
		}
	}
	for name, request := range n.Requests {
		offer := node.Status.Allocatable[name]
		if request.Sign() <= 0 {
			continue
		}
		if request.Cmp(offer) > 0 {
			return 0, false
		}
		share = max(share, request.AsApproximateFloat64()/offer.AsApproximateFloat64())
	}
	return share, true
}

func tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	switch {
	case t.Effect != "" && t.Effect != taint.Effect:
		return false
	case t.Key == "":
		return t.Operator == corev1.TolerationOpExists
	case t.Key != taint.Key:
		return false
	}
	return t.Operator == corev1.TolerationOpExists || t.Value == taint.Value
}
