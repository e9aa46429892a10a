package kwok

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// answer is what the cloud makes of an order before it makes anything.
type answer struct {
	// short are the machines that it has no stock for.
	short map[string]bool
	// taken is the name of a machine because of which an order for all or none gets none, empty where there is none such.
	taken string
}

// isAtomic reports whether all machines of an order are made or none.
func isAtomic(pool *launch.Pool, order *launch.Order) bool {
	return order.Atomic && pool.Machines.Kwok.Orders == v1alpha1.KwokOrdersAtomic
}

// answerTo counts what there is and decides. The caller holds l.selling until the instances are made.
func (l *Launcher) answerTo(ctx context.Context, pool *launch.Pool, order *launch.Order) (answer, error) {
	options := []client.ListOption{client.MatchingLabels{v1alpha1.LabelNodePool: pool.Name}}
	if isAtomic(pool, order) {
		// Any instance may have the name of one of the machines.
		options = nil
	}
	var list v1alpha1.KwokInstanceList
	if err := l.live.List(ctx, &list, options...); err != nil {
		return answer{}, fmt.Errorf("count the instances of NodePool %s: %w", pool.Name, err)
	}
	return decide(pool, order, list.Items), nil
}

// decide gives what is left of the stock to the machines of an order, first numbers first. Of an order for all or none, of which
// something exists, the decision was made when that was made.
func decide(pool *launch.Pool, order *launch.Order, there []v1alpha1.KwokInstance) answer {
	byName := make(map[string]*v1alpha1.KwokInstance, len(there))
	sold := int32(0)
	var earlier *v1alpha1.KwokInstance
	for i := range there {
		instance := &there[i]
		byName[instance.Name] = instance
		if instance.Spec.NodePool == pool.Name && holdsStock(instance) {
			sold++
		}
		if instance.Spec.Token == order.Token && instance.Spec.Cluster == pool.Cluster && instance.Spec.Machine != "" {
			earlier = instance
		}
	}
	atomic := isAtomic(pool, order)
	var wanting []string
	for _, machine := range order.Machines {
		switch instance := byName[InstanceName(pool, machine.Name)]; {
		case instance == nil:
			wanting = append(wanting, machine.Name)
		case atomic && !isOurs(pool, order, machine.Name, instance):
			return answer{taken: machine.Name}
		}
	}
	stock := pool.Machines.Kwok.Stock
	if stock == nil {
		return answer{}
	}
	served := min(len(wanting), int(max(0, *stock-sold)))
	switch {
	case atomic && earlier != nil && earlier.Spec.Fate == v1alpha1.FateOutOfStock:
		served = 0
	case atomic && earlier != nil:
		served = len(wanting)
	case atomic && served < len(wanting):
		served = 0
	}
	out := answer{short: map[string]bool{}}
	for _, name := range wanting[served:] {
		out.short[name] = true
	}
	return out
}

// holdsStock reports whether an instance is one of the stock: it does until it is gone, or has failed.
func holdsStock(instance *v1alpha1.KwokInstance) bool {
	return instance.Spec.Fate != v1alpha1.FateOutOfStock && instance.Status.Failure == nil
}

// isOurs reports whether an instance is the one that was made for a machine by an order.
func isOurs(pool *launch.Pool, order *launch.Order, machine string, instance *v1alpha1.KwokInstance) bool {
	return isOfPool(pool, instance) && instance.Spec.Machine == machine && instance.Spec.Token == order.Token
}

// isOfPool reports whether an instance bears the pool's mark.
func isOfPool(pool *launch.Pool, instance *v1alpha1.KwokInstance) bool {
	return instance.Spec.Cluster == pool.Cluster && instance.Spec.NodePool == pool.Name
}
