package karpenter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// apiServer answers questions about events.
type apiServer struct {
	client.Reader

	mu     sync.Mutex
	events []corev1.Event
	err    error
	// lists is how often it was asked, and sent how many events it has sent.
	lists, sent int
}

func (a *apiServer) List(_ context.Context, into client.ObjectList, options ...client.ListOption) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists++
	list, is := into.(*corev1.EventList)
	if !is || a.err != nil {
		return a.err
	}
	o := (&client.ListOptions{}).ApplyOptions(options)
	from := 0
	if o.Continue != "" {
		if _, err := fmt.Sscan(o.Continue, &from); err != nil {
			return err
		}
	}
	for i := from; i < len(a.events); i++ {
		e := &a.events[i]
		if !o.FieldSelector.Matches(fields.Set{
			"involvedObject.kind": e.InvolvedObject.Kind, "involvedObject.uid": string(e.InvolvedObject.UID), "reason": e.Reason,
			"source": cmp.Or(e.Source.Component, e.ReportingController),
		}) {
			continue
		}
		if o.Limit > 0 && int64(len(list.Items)) == o.Limit {
			list.Continue = fmt.Sprint(i)
			break
		}
		list.Items = append(list.Items, *e)
	}
	a.sent += len(list.Items)
	return nil
}

// tell adds an event about a claim.
func (a *apiServer) tell(uid types.UID, message, source, controller string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, corev1.Event{
		InvolvedObject: corev1.ObjectReference{Kind: kindNodeClaim, UID: uid}, Reason: reasonShortage, Message: message,
		Source: corev1.EventSource{Component: source}, ReportingController: controller,
	})
}

// launcherOf has claims that were deleted before they were launched.
func launcherOf(t *testing.T, a *apiServer, claims int) (*Launcher, *clocktesting.FakePassiveClock, []types.UID) {
	t.Helper()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	clock := clocktesting.NewFakePassiveClock(now)
	l := &Launcher{
		claims: toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{indexPool: byPool}), live: a, clock: clock,
	}
	uids := make([]types.UID, claims)
	for i := range uids {
		claim := &NodeClaim{}
		claim.Name, claim.UID = fmt.Sprintf("hpc-%d", i), types.UID(fmt.Sprintf("uid-%d", i))
		claim.Labels = map[string]string{v1alpha1.LabelNodePool: "hpc", v1alpha1.LabelMachine: claim.Name}
		claim.Annotations, claim.Finalizers = map[string]string{annotationCluster: "c"}, []string{Finalizer}
		claim.CreationTimestamp, claim.DeletionTimestamp = metav1.NewTime(now), new(metav1.NewTime(now))
		if err := l.claims.Add(claim); err != nil {
			t.Fatal(err)
		}
		uids[i] = claim.UID
	}
	return l, clock, uids
}

func list(t *testing.T, l *Launcher) []launch.Instance {
	t.Helper()
	instances, err := l.List(t.Context(), &launch.Pool{Cluster: "c", Name: "hpc"})
	if err != nil {
		t.Fatal(err)
	}
	return instances
}

// TestWhoseEvent: an event counts if it is Karpenter's, and what it says is no longer than a status may be.
func TestWhoseEvent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", longestMessage)
	for name, row := range map[string]struct {
		source, controller string
		counts             bool
	}{
		"Karpenter's":                    {"karpenter", "karpenter", true},
		"of a recorder of events.k8s.io": {"", "karpenter", true},
		"of an old recorder":             {"karpenter", "", true},
		"a person's":                     {"kubectl", "kubectl", false},
		"nobody's":                       {"", "", false},
		"of two":                         {"karpenter", "example.com/other", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &apiServer{}
			l, _, uids := launcherOf(t, a, 1)
			a.tell(uids[0], long, row.source, row.controller)
			failure := list(t, l)[0].Failure
			if (failure != nil) != row.counts {
				t.Fatalf("the failure is %v", failure)
			}
			if failure != nil && (len(failure.Message) > longestMessage || !utf8.ValidString(failure.Message)) {
				t.Errorf("the message has %d bytes", len(failure.Message))
			}
		})
	}
}

// TestNoEvents: where events cannot be read, a listing has its answer, and says so when it is waited for no longer.
func TestNoEvents(t *testing.T) {
	t.Parallel()
	a := &apiServer{err: errors.New("etcd is slow")}
	l, clock, _ := launcherOf(t, a, 1)
	instance := list(t, l)[0]
	for instance.Failure == nil {
		if !instance.LookAgain.After(clock.Now()) {
			t.Fatalf("it is looked at again at %s", instance.LookAgain)
		}
		clock.SetTime(instance.LookAgain)
		instance = list(t, l)[0]
	}
	if f := instance.Failure; f.Code != codeNotLaunched || f.Class != v1alpha1.FailureOther || !strings.Contains(f.Message, "etcd is slow") {
		t.Errorf("the failure is %+v", f)
	}
	if a.lists != 5 {
		t.Errorf("events were looked for %d times: at 0, 0.5, 1.5, 3.5 and 4 s", a.lists)
	}
}

// TestManyEvents: how much is read for claims that have no machine. Nothing is read twice.
func TestManyEvents(t *testing.T) {
	t.Parallel()
	for claims, lists := range map[int]int{1: 1, inParallel: inParallel, inParallel + 1: 3} {
		t.Run(fmt.Sprint(claims), func(t *testing.T) {
			t.Parallel()
			a := &apiServer{}
			l, _, uids := launcherOf(t, a, claims)
			for i := range 2 * eventsPerPage {
				a.tell(types.UID(fmt.Sprintf("old-%d", i)), "none", eventSource, eventSource)
			}
			for _, uid := range uids {
				a.tell(uid, "none", eventSource, eventSource)
			}
			for range 3 {
				for _, instance := range list(t, l) {
					if instance.Failure == nil || instance.Failure.Class != v1alpha1.FailureOutOfResources {
						t.Errorf("it is %+v", instance)
					}
				}
			}
			if a.lists != lists || (claims <= inParallel && a.sent != claims) {
				t.Errorf("events were looked for %d times, and %d were read", a.lists, a.sent)
			}
		})
	}
	a := &apiServer{}
	l, clock, _ := launcherOf(t, a, inParallel+1)
	for i := range (eventPages + 1) * eventsPerPage {
		a.tell(types.UID(fmt.Sprintf("old-%d", i)), "none", eventSource, eventSource)
	}
	list(t, l)
	if a.lists != eventPages {
		t.Errorf("%d pages were read", a.lists)
	}
	list(t, l)
	if a.lists != eventPages {
		t.Error("events are read again before it is time")
	}
	clock.SetTime(clock.Now().Add(eventWithin))
	if f := list(t, l)[0].Failure; f == nil || !strings.Contains(f.Message, errTooManyEvents.Error()) {
		t.Errorf("the failure is %+v", f)
	}
}

// TestForgets: what is remembered of a claim goes with it.
func TestForgets(t *testing.T) {
	t.Parallel()
	l, _, _ := launcherOf(t, &apiServer{}, 2)
	list(t, l)
	if err := l.claims.Delete(&NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "hpc-0"}}); err != nil {
		t.Fatal(err)
	}
	list(t, l)
	if len(l.memory.sights) != 1 {
		t.Errorf("%v is remembered", l.memory.sights)
	}
}

// TestDenied: what admission refuses is not asked for again.
func TestDenied(t *testing.T) {
	t.Parallel()
	resource := schema.GroupResource{Group: GroupVersion.Group, Resource: "nodeclaims"}
	for name, row := range map[string]struct {
		err  error
		want bool
	}{
		"a policy": {
			apierrors.NewForbidden(resource, "m", errors.New("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no")), true,
		},
		"a webhook":        {apierrors.NewBadRequest(`admission webhook "w" denied the request: no`), true},
		"no right":         {apierrors.NewForbidden(resource, "m", errors.New(`User "p" cannot create resource "nodeclaims"`)), false},
		"not ready":        {apierrors.NewForbidden(resource, "m", errors.New("not yet ready to handle request")), false},
		"no webhook":       {apierrors.NewInternalError(errors.New(`failed calling webhook "w": it denied the request`)), false},
		"no API server":    {errors.New("connection refused"), false},
		"nothing is wrong": {nil, false},
	} {
		if got := denied(row.err); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestIsAnother: a node is of no other instance than its claim while one of them does not say which it has.
func TestIsAnother(t *testing.T) {
	t.Parallel()
	o := &Orphans{Cluster: "c"}
	for name, row := range map[string]struct {
		cluster, pool, claim, node string
		want                       bool
	}{
		"the same":           {"c", "hpc", "a", "a", false},
		"another":            {"c", "hpc", "a", "b", true},
		"not launched":       {"c", "hpc", "", "b", false},
		"not initialized":    {"c", "hpc", "a", "", false},
		"of another cluster": {"d", "hpc", "a", "b", false},
		"of another pool":    {"c", "web", "a", "b", false},
	} {
		claim, node := &NodeClaim{}, &corev1.Node{}
		claim.Annotations, claim.Labels = map[string]string{annotationCluster: row.cluster}, map[string]string{v1alpha1.LabelNodePool: row.pool}
		claim.Status.ProviderID, node.Spec.ProviderID = row.claim, row.node
		node.Labels = map[string]string{v1alpha1.LabelNodePool: "hpc"}
		if got := o.isAnother(claim, node); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
