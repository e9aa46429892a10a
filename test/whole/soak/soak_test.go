package soak

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

var (
	seedFlag  = flag.Uint64("soak.seed", 41, "where the draws begin; 0 for another one each time")
	listsFlag = flag.Bool("soak.lists", false, "let members list two pools each")
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// TestSoak: whatever is killed while members ask for more and less, in the end each has what it was promised last, every
// node is held by one of them, no version of any object has broken a promise on the way, and when the MiniClusters are
// deleted nothing is left.
func TestSoak(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1_000_000)
	}
	t.Logf("the seed is %d", seed)
	w := newWorld(t, seed)
	w.rest("all members have their first nodes")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	killers := w.killAll(ctx)
	count := w.requestAll()
	w.story.tell("%d requests are granted", count)
	if t.Failed() {
		cancel()
	}
	killers.Wait()
	if t.Failed() {
		t.FailNow()
	}
	loaded := time.Since(began)
	w.rest("everything is at rest")
	rested := time.Since(began) - loaded
	w.deleteAll()

	for _, name := range []string{
		controlplane.Etcd, controlplane.KubeAPIServer, controlplane.KubeScheduler, controlplane.KubeControllerManager,
		controlplane.KwokController,
	} {
		if !w.Plane.Component(name).Running() {
			t.Errorf("%s does not run any more", name)
		}
	}
	w.stopKeepers()
	if err := w.recorder.Stop(); err != nil {
		t.Fatal(err)
	}
	events := w.recorder.Events()
	for _, broken := range append(history.Broken(events), history.Lost(events)...) {
		t.Error(broken)
	}
	t.Logf("%d requests and %d kills took %s, the way to rest after that %s; %d versions of objects were checked, %s in all",
		count, killsOfAPIServer+3*killsOfProgram, loaded.Round(time.Second), rested.Round(time.Second), len(events),
		time.Since(w.story.began).Round(time.Second))
}
