package resize

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// stranger is a node that carries the label of a pool and is no machine of it.
type stranger struct {
	name, pool string
	uid        types.UID
	// why says what disagrees.
	why string
	// told is set for a node that is to be told of: pods could run on it, and its machine could have been written.
	told bool
}

// strangers remembers the strangers that are there: since when each is known, and whether it was told.
type strangers map[types.UID]*acquaintance

type acquaintance struct {
	since time.Time
	told  bool
}

// tellStrangers warns of the nodes that say of themselves that they are of a pool, each once. A node whose record has just gone is
// about to go itself, so none is told at first sight. next is when another one is due; zero for none.
func (r *Reconciler) tellStrangers(ctx context.Context, seen *seen, now time.Time) (next time.Time) {
	known := strangers{}
	for _, s := range seen.strangers {
		of := r.strangers[s.uid]
		if of == nil {
			of = &acquaintance{since: now}
		}
		known[s.uid] = of
		pool, exists := seen.poolUIDs[s.pool]
		if of.told || !s.told || !exists {
			continue
		}
		if due := of.since.Add(vouchAfter); now.Before(due) {
			if next.IsZero() || due.Before(next) {
				next = due
			}
			continue
		}
		of.told = true
		r.tellStranger(ctx, &s, pool)
	}
	r.strangers = known
	return next
}

func (r *Reconciler) tellStranger(ctx context.Context, s *stranger, pool types.UID) {
	message := fmt.Sprintf("node %s carries the label of NodePool %s, and no machine of %s is that node (%s): "+
		"it is held for nobody; take the label off, or delete the node", s.name, s.pool, s.pool, s.why)
	log.FromContext(ctx).Info(message, "nodePool", s.pool, "node", s.name, "reason", v1alpha1.ReasonStrangeNode)
	regarding := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: s.pool, UID: pool}}
	// Events that differ in their note alone are taken for repetitions of the first; the node tells them apart.
	related := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: s.name, UID: s.uid}}
	reason := v1alpha1.ReasonStrangeNode
	r.Events.Eventf(regarding, related, corev1.EventTypeWarning, reason, reason, "%s", pods.Shortened(message, longestNote))
}
