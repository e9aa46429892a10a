package endpoint

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// Status is the payload of the reply to RequestStatus. Its nodes and queue are the fields that users of
// the first ensemble-operator know.
type Status struct {
	Nodes StatusNodes `json:"nodes"`
	// Queue counts the jobs of the member's Flux queue. Only the member knows them: they are those of its last
	// RequestUpdate, and 0 where there was none.
	Queue StatusQueue `json:"queue"`
	// Waiting has the number of waiting jobs by the nodes that each needs, Counts has further counts, both of the
	// last RequestUpdate.
	Waiting map[string]int64 `json:"waiting,omitempty"`
	Counts  map[string]int64 `json:"counts,omitempty"`
	// QueueAge is how many seconds ago the member told queue, waiting and counts. Absent where it never has.
	QueueAge *float64     `json:"queueAgeSeconds,omitempty"`
	Resize   StatusResize `json:"resize"`
}

// StatusNodes counts the nodes of a member and their cores.
type StatusNodes struct {
	// CoresUp are the allocatable cores of the nodes held, CoresFree those that no pod of a member is on.
	CoresFree int64 `json:"node_cores_free"`
	CoresUp   int64 `json:"node_cores_up"`
	// Up is the number of nodes held that are Ready, Free of those without a pod of the member.
	Up   int `json:"node_up_count"`
	Free int `json:"node_free_count"`
}

// StatusQueue counts jobs by their Flux states.
type StatusQueue struct {
	New      int64 `json:"new"`
	Depend   int64 `json:"depend"`
	Priority int64 `json:"priority"`
	Sched    int64 `json:"sched"`
	Run      int64 `json:"run"`
	Cleanup  int64 `json:"cleanup"`
	Inactive int64 `json:"inactive"`
}

// StatusGroup says how far a group of pods is on the way to its desired size.
type StatusGroup struct {
	Name     string `json:"name"`
	Wants    int32  `json:"wants"`
	Has      int32  `json:"has"`
	Running  int32  `json:"running"`
	Reserved int32  `json:"reserved"`
}

// StatusResize says how far the member is on the way to its desired size.
type StatusResize struct {
	// Groups are the groups of pods of a member with several; what stands beside is then the sum.
	Groups []StatusGroup `json:"groups,omitempty"`
	Wants  int32         `json:"wants"`
	Has    int32         `json:"has"`
	// Max is the largest size that the member may have.
	Max       int32    `json:"max"`
	Reserved  int32    `json:"reserved"`
	NodePools []string `json:"nodePools"`
	State     string   `json:"state"`
	Reason    string   `json:"reason"`
}

// RequestStatus says how the caller's workload is.
func (s *Server) RequestStatus(ctx context.Context, request *ensemble.StatusRequest) (*ensemble.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	const action = "status"
	m, err := s.member(ctx, request.GetMember(), request.GetName(), toRead)
	if err != nil {
		return s.refuse(action, m, err), nil
	}
	nodes, err := s.nodes(ctx, m)
	if err != nil {
		return s.refuse(action, m, err), nil
	}
	reason, message := state(m.object)
	out := Status{
		Nodes: nodes,
		Resize: StatusResize{
			Wants: m.object.Spec.Size, Has: m.object.Status.Size, Max: m.object.Spec.MaxSize, Reserved: m.object.Status.Reserved,
			NodePools: m.object.Spec.NodePools, State: reason, Reason: message,
		},
	}
	for i := range m.object.Spec.Groups {
		group := &m.object.Spec.Groups[i]
		recorded := v1alpha1.RecordOf(m.object, group.Name)
		out.Resize.Groups = append(out.Resize.Groups, StatusGroup{
			Name: group.Name, Wants: group.Size, Has: recorded.Size, Running: recorded.Running, Reserved: recorded.Reserved,
		})
	}
	if told := s.queues.last(ctx, m.key, m.object); told != nil {
		age := max(0, s.clock.Since(told.At.Time).Seconds())
		out.Queue, out.Waiting, out.Counts, out.QueueAge = StatusQueue(told.Jobs), told.Waiting, told.Counts, &age
	}
	s.metrics.answered(action, ensemble.Response_SUCCESS)
	return respond(ensemble.Response_SUCCESS, out), nil
}

func (s *Server) nodes(ctx context.Context, m *spoken) (StatusNodes, error) {
	var out StatusNodes
	for i := range m.object.Status.Reservations {
		for _, name := range m.object.Status.Reservations[i].Held {
			var node corev1.Node
			if err := s.client.Get(ctx, types.NamespacedName{Name: name}, &node); client.IgnoreNotFound(err) != nil {
				return out, fmt.Errorf("read node %s: %w", name, err)
			}
			if !ready(&node) {
				continue
			}
			cores := node.Status.Allocatable.Cpu().MilliValue() / 1000
			out.Up++
			out.CoresUp += cores
			if !s.busy(m, name) {
				out.Free++
				out.CoresFree += cores
			}
		}
	}
	return out, nil
}

// busy reports whether a pod of the member is on a node.
func (s *Server) busy(m *spoken, node string) bool {
	return slices.ContainsFunc(s.pods.On(node), func(pod *pods.Pod) bool {
		owner := pod.Owner()
		if !owner.IsJob() || pod.Key().Namespace != m.key.Namespace {
			return false
		}
		detail := pod.Detail()
		return owner.Name == m.kind.JobOf(m.name, "") || (detail != nil && detail.Labels[v1alpha1.LabelMember] == m.key.Name)
	})
}

func ready(node *corev1.Node) bool {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
