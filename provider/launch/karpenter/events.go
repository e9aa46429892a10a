package karpenter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Karpenter tells of a shortage by an event about the claim, in the namespace default since claims have none (client-go, tools/record).
const (
	eventNamespace = metav1.NamespaceDefault
	eventSource    = "karpenter" // operator/operator.go, AppName
	reasonShortage = "InsufficientCapacityError"
	kindNodeClaim  = "NodeClaim"
)

const (
	// eventsTimeout bounds a look for events, so that a listing has its answer without them.
	eventsTimeout = 3 * time.Second
	// eventsPerPage and eventPages bound what is read where more claims have no machine than are asked for one by one.
	eventsPerPage = 500
	eventPages    = 10
)

// errTooManyEvents is a look for events that has not come to the end.
var errTooManyEvents = errors.New("there are too many events")

// shortages are the messages of Karpenter's events about claims that it had no machine for. What was found is told also with an error.
// Events are read from the API server: a few claims are asked for one by one, and for many the events of all are read, in pages.
func (l *Launcher) shortages(ctx context.Context, of []types.UID) (map[types.UID]string, error) {
	if len(of) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, eventsTimeout, fmt.Errorf("no answer within %s", eventsTimeout))
	defer cancel()
	if len(of) > inParallel {
		return l.pagedShortages(ctx, of)
	}
	out := make(map[types.UID]string, len(of))
	var mu sync.Mutex
	group, inGroup := errgroup.WithContext(ctx)
	for _, uid := range of {
		group.Go(func() error {
			found, _, err := l.page(inGroup, uid, "")
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(out, found)
			return err
		})
	}
	return out, group.Wait()
}

func (l *Launcher) pagedShortages(ctx context.Context, of []types.UID) (map[types.UID]string, error) {
	out := make(map[types.UID]string, len(of))
	missing := make(map[types.UID]bool, len(of))
	for _, uid := range of {
		missing[uid] = true
	}
	next := ""
	for range eventPages {
		found, more, err := l.page(ctx, "", next)
		if err != nil {
			return out, err
		}
		for uid, message := range found {
			if missing[uid] {
				out[uid] = message
				delete(missing, uid)
			}
		}
		if next = more; next == "" || len(missing) == 0 {
			return out, nil
		}
	}
	return out, fmt.Errorf("%w: %d were read", errTooManyEvents, eventPages*eventsPerPage)
}

// page is a page of events, about one claim or, without a UID, about all, and where the next page begins, empty for none.
func (l *Launcher) page(ctx context.Context, uid types.UID, from string) (shortages map[types.UID]string, next string, err error) {
	fields := client.MatchingFields{"involvedObject.kind": kindNodeClaim, "reason": reasonShortage, "source": eventSource}
	if uid != "" {
		fields["involvedObject.uid"] = string(uid)
	}
	var list corev1.EventList
	err = l.live.List(ctx, &list, client.InNamespace(eventNamespace), fields, client.Limit(eventsPerPage), client.Continue(from))
	if err != nil {
		return nil, "", fmt.Errorf("list events: %w", cmp.Or(context.Cause(ctx), err))
	}
	shortages = make(map[types.UID]string, len(list.Items))
	for i := range list.Items {
		if event := &list.Items[i]; isShortage(event) {
			shortages[event.InvolvedObject.UID] = event.Message
		}
	}
	return shortages, list.Continue, nil
}

// isShortage reports whether an event is Karpenter's, which writes both kinds of its origin (client-go, tools/record). It is no proof:
// whoever may create events in the namespace can write the same, and make a claim that somebody has deleted look like a shortage, but no
// other.
func isShortage(event *corev1.Event) bool {
	return event.InvolvedObject.Kind == kindNodeClaim && event.Reason == reasonShortage &&
		cmp.Or(event.Source.Component, event.ReportingController) == eventSource &&
		cmp.Or(event.ReportingController, event.Source.Component) == eventSource
}
