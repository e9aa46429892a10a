package resize

import (
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// departures remembers of which machines that go their members were told, by the names of their nodes, for as long as they are
// there. What another process has told is in the members' statuses.
type departures struct {
	told sync.Map
}

func (d *departures) has(node string, machine types.UID) bool {
	uid, known := d.told.Load(node)
	return known && uid == machine
}

// note remembers that a member was told of some nodes.
func (d *departures) note(nodes []string, machines map[string]types.UID) {
	for _, node := range nodes {
		d.told.Store(node, machines[node])
	}
}

// forget drops what is there no more.
func (d *departures) forget(departing map[string]types.UID) {
	d.told.Range(func(key, _ any) bool {
		if node, is := key.(string); !is || departing[node] == "" {
			d.told.Delete(key)
		}
		return true
	})
}

// recordsDeparture reports whether the status of the member that holds a node says that the node goes.
func (s *seen) recordsDeparture(node, pool string) bool {
	holder := s.holder(node, pool)
	if holder == nil {
		return false
	}
	return slices.ContainsFunc(holder.member.Status.Decisions, func(d v1alpha1.DecisionRecord) bool {
		return d.Reason == v1alpha1.ReasonMachineLeaves && slices.Contains(strings.FieldsFunc(d.Message, betweenNames), node)
	})
}

// betweenNames reports whether a character of a sentence is in no name of an object.
func betweenNames(r rune) bool { return strings.ContainsRune(" ,;:", r) }
