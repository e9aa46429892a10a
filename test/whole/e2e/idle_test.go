package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// restFor is how long nothing may be written while nothing is to be done.
const restFor = 30 * time.Second

// TestIdle: with a member at rest neither process writes anything, whoever asks about it. It runs while no other test does.
func TestIdle(t *testing.T) {
	x := newTenant(t)
	pool := x.pool("hpc", 10, "0s")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	planned := x.plan(cluster, "grow", 2)
	x.grant(cluster, "grow", 2)
	x.atSize(cluster, 4)
	x.asPlanned(cluster, planned)
	planned = x.plan(cluster, "shrink", 1)
	x.grant(cluster, "shrink", 1)
	x.atSize(cluster, 3)
	x.asPlanned(cluster, planned)
	x.nodes(pool, 3)
	// The last answers to the last writes: Cluster Autoscaler is told the floor, and an event may be on its way.
	x.until(func(s *history.State) string {
		if p := s.Pools[pool]; p.Status.AnnouncedFloor != 3 {
			return fmt.Sprintf("Cluster Autoscaler was told %d, not 3", p.Status.AnnouncedFloor)
		}
		return ""
	})
	x.quiet()

	before := x.writes()
	ctx, cancel := context.WithTimeout(t.Context(), restFor)
	defer cancel()
	changes := make(chan string)
	for _, kind := range watchedKinds() {
		go x.report(ctx, kind, changes)
	}
	// Questions change nothing.
	x.atRest(cluster)
	x.granted(x.plan(cluster, "grow", 2), pool+" 5")
	for range watchedKinds() {
		for change := range changes {
			if change == "" {
				break
			}
			t.Errorf("while nothing was to be done: %s", change)
		}
	}
	if after := x.writes(); after != before {
		t.Errorf("provider and controller have made %d writes while nothing was to be done", after-before)
	}
	x.end(pool)
}

// watchedKinds are those that provider and controller may write, and those that they look at. Events are not
// among them, since others write them too; that ours write none shows in the count of their writes.
func watchedKinds() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		{Group: "autoscaling.flux-framework.org", Version: "v1alpha1", Kind: "NodePool"},
		{Group: "autoscaling.flux-framework.org", Version: "v1alpha1", Kind: "EnsembleMember"},
		{Group: "autoscaling.flux-framework.org", Version: "v1alpha1", Kind: "PoolMachine"},
		{Group: "autoscaling.flux-framework.org", Version: "v1alpha1", Kind: "KwokInstance"},
		{Group: "flux-framework.org", Version: "v1alpha2", Kind: "MiniCluster"},
		{Version: "v1", Kind: "Pod"},
		{Version: "v1", Kind: "Node"},
		{Group: "batch", Version: "v1", Kind: "Job"},
	}
}

// report sends every change of a kind, and an empty text when the time is over.
func (x *tenant) report(ctx context.Context, kind schema.GroupVersionKind, changes chan<- string) {
	defer func() { changes <- "" }()
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err := shared.Client.List(ctx, list); err != nil {
		changes <- err.Error()
		return
	}
	watcher, err := shared.Client.Watch(ctx, list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		changes <- err.Error()
		return
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event, open := <-watcher.ResultChan():
			if !open {
				if ctx.Err() == nil {
					changes <- fmt.Sprintf("the watch of %s has ended", kind.Kind)
				}
				return
			}
			object, ok := event.Object.(client.Object)
			if !ok {
				changes <- fmt.Sprintf("%s %v", event.Type, event.Object)
				continue
			}
			if event.Type != watch.Bookmark {
				changes <- fmt.Sprintf(
					"%s %s %s/%s to version %s", event.Type, kind.Kind, object.GetNamespace(), object.GetName(), object.GetResourceVersion(),
				)
			}
		}
	}
}

// quiet waits until no write was recorded for some seconds.
func (x *tenant) quiet() {
	x.Helper()
	const calm = 3 * time.Second
	deadline := time.Now().Add(patience)
	last, since := x.writes(), time.Now()
	ticker := time.NewTicker(calm / 10)
	defer ticker.Stop()
	for time.Since(since) < calm {
		if time.Now().After(deadline) {
			x.Fatalf("provider and controller have not come to rest within %s", patience)
		}
		select {
		case <-ticker.C:
		case <-x.Context().Done():
			x.Fatal(x.Context().Err())
		}
		if now := x.writes(); now != last {
			last, since = now, time.Now()
		}
	}
}

// request is what the audit log says of one.
type request struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	Object struct {
		Group       string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// requests calls see for every request of provider and controller so far.
func requests(see func(*request)) (err error) {
	file, err := os.Open(shared.audit)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var r request
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			// The last line may be half written.
			continue
		}
		see(&r)
	}
	return scanner.Err()
}

// writes counts the requests of provider and controller that were to change something, leases apart.
func (x *tenant) writes() int {
	x.Helper()
	count := 0
	err := requests(func(r *request) {
		switch r.Verb {
		case "create", "update", "patch", "delete", "deletecollection":
			if !strings.HasPrefix(r.Object.Resource, "leases") {
				count++
			}
		}
	})
	if err != nil {
		x.Fatal(err)
	}
	return count
}
