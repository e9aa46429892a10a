package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// member is one ensemble member.
type member struct {
	key   types.NamespacedName
	pools []string
	// wants is the size that it was promised last. One request at a time changes it.
	wants int32
}

// heartbeat is when a member asks again that got no answer, tryFor how long it waits for one.
const heartbeat, tryFor = 500 * time.Millisecond, 12 * time.Second

// change is a request.
type change struct {
	action string
	amount int32
}

// from is the desired size that the request leads to.
func (c change) from(size int32) int32 {
	if c.action == "grow" {
		return min(size+c.amount, maxNodes)
	}
	return max(size-c.amount, 1)
}

// reply is what a member reads in an answer.
type reply struct {
	From   int32  `json:"from"`
	Wants  int32  `json:"wants"`
	Reason string `json:"reason"`
}

// ask sends a request until it is answered. Where the answer to a try got lost, the request may have been granted: what the
// last answer says has to follow from that, or from what the member was promised before.
func (w *world) ask(m *member, c change) error {
	possible := []int32{m.wants}
	tries := 0
	err := wait.PollUntilContextTimeout(w.Context(), heartbeat, patience, true, func(ctx context.Context) (bool, error) {
		tries++
		response, err := w.try(ctx, m, c)
		var r reply
		if err == nil {
			err = json.Unmarshal([]byte(response.GetPayload()), &r)
		}
		switch {
		case err != nil && strings.Contains(err.Error(), "connection refused"), strings.HasPrefix(r.Reason, "read "):
			// Nobody was there, or the API server was not when it was asked who the caller is: nothing was written.
			return false, nil
		case err != nil, response.GetStatus() == ensemble.Response_ERROR:
			w.story.tell("%s %s %d: no answer: %v %s", m.key.Name, c.action, c.amount, err, r.Reason)
			possible = append(possible, c.from(possible[len(possible)-1]))
			return false, nil
		case response.GetStatus() == ensemble.Response_DENIED && strings.HasPrefix(r.Reason, "the desired size is "):
			// It is at the bound, by a try whose answer got lost.
			r.From = c.from(possible[len(possible)-1])
			r.Wants = r.From
		case response.GetStatus() == ensemble.Response_DENIED:
			// The caches of a controller that has just started do not know the pod, or have an older one.
			w.story.tell("%s %s %d: denied: %s", m.key.Name, c.action, c.amount, r.Reason)
			return false, nil
		}
		if !slices.Contains(possible, r.From) || r.Wants != c.from(r.From) {
			return false, fmt.Errorf("the desired size was to be one of %v before, and the answer is from %d to %d", possible, r.From, r.Wants)
		}
		w.story.tell("%s %s %d: from %d to %d, in try %d", m.key.Name, c.action, c.amount, r.From, r.Wants, tries)
		m.wants = r.Wants
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("%s %s %d: %w", m.key.Name, c.action, c.amount, err)
	}
	return nil
}

// try sends a request once, from the pod of the lead broker.
func (w *world) try(ctx context.Context, m *member, c change) (*ensemble.Response, error) {
	var from string
	err := w.look(func(s *history.State) {
		if lead := s.Lead(m.key); lead != nil {
			from = lead.Status.PodIP
		}
	})
	if from == "" {
		return nil, errors.Join(errors.New("the lead broker does not run"), err)
	}
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	return w.AskFrom(ctx, net.ParseIP(from), func(ctx context.Context, client ensemble.EnsembleOperatorClient) (*ensemble.Response, error) {
		return client.RequestAction(ctx, &ensemble.ActionRequest{
			Member: "miniclusters", Name: m.key.Name, Action: c.action,
			Payload: fmt.Sprintf(`{"version":"v1alpha2","group":"flux-framework.org","%s":%d}`, c.action, c.amount),
		})
	})
}
