package kwok

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestVanishes: an instance without stock fails at once, is removed by the cloud, and stays to be seen until it is let go.
func TestVanishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(k *v1alpha1.KwokMachines) { k.Stock = new(int32(0)) }, vanishing)
	w.launch(t)
	w.reconcile(t)
	instance := w.instance(t)
	if instance == nil || instance.DeletionTimestamp == nil {
		t.Fatalf("it is %+v", instance)
	}
	if told := seen(instance); told.Failure == nil || told.Failure.Class != v1alpha1.FailureOutOfResources || told.Going {
		t.Errorf("it is %+v", told)
	}
	w.writes.seen = nil
	w.terminate(t)
	if w.instance(t) != nil || len(w.writes.seen) != 1 {
		t.Errorf("it is %+v after %v", w.instance(t), w.writes.seen)
	}
}

// TestVanishesLate: one that is let go before it has failed goes, too.
func TestVanishesLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(k *v1alpha1.KwokMachines) {
		k.Stock, k.TerminationDelay = new(int32(0)), &metav1.Duration{Duration: time.Hour}
	}, vanishing)
	w.launch(t)
	w.terminate(t)
	if w.instance(t) != nil {
		t.Errorf("it is %+v", w.instance(t))
	}
	w.reconcile(t)
}

// TestBootFailure: an instance that fails to boot gets no node, and stays until it is let go, which takes no time.
func TestBootFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(k *v1alpha1.KwokMachines) {
		k.FailurePercent, k.BootDelay.Duration, k.TerminationDelay = 100, time.Minute, &metav1.Duration{Duration: time.Hour}
	})
	w.launch(t)
	w.pass(time.Minute)
	w.reconcile(t)
	told := seen(w.instance(t))
	if told.Failure == nil || told.Failure.Code != codeBootFailure || told.Failure.Machine != "hpc-0" || len(w.nodes(t)) != 0 {
		t.Errorf("it is %+v with the nodes %v", told, w.nodes(t))
	}
	w.terminate(t)
	if w.instance(t) != nil {
		t.Error("it does not end")
	}
}

// TestCrash: an instance crashes some time after it has registered: its node goes, and the failure stays.
func TestCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(k *v1alpha1.KwokMachines) {
		k.CrashPercent, k.FateWithin = 100, &metav1.Duration{Duration: time.Hour}
	})
	w.launch(t)
	w.reconcile(t)
	left := w.reconcile(t)
	if len(w.nodes(t)) != 1 || left <= 0 || left > time.Hour {
		t.Fatalf("it crashes in %s, and has the nodes %v", left, w.nodes(t))
	}
	w.pass(left)
	// Killed between the failure and the node.
	w.writes.seen, w.writes.allowed = nil, 1
	if _, err := w.boot.live(t.Context(), w.instance(t)); err == nil {
		t.Error("it was not killed")
	}
	if told := seen(w.instance(t)); told.Failure == nil || told.Failure.Code != codeCrashed || len(w.nodes(t)) != 1 {
		t.Errorf("it is %+v with the nodes %v", told, w.nodes(t))
	}
	w.writes.allowed = -1
	w.reconcile(t)
	if w.instance(t) == nil || len(w.nodes(t)) != 0 {
		t.Errorf("it is %v with the nodes %v", w.instance(t), w.nodes(t))
	}
	w.terminate(t)
	if w.instance(t) != nil {
		t.Error("it does not end")
	}
}

// TestSpot: an instance that is taken back is announced first.
func TestSpot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(k *v1alpha1.KwokMachines) {
		k.SpotPercent, k.SpotNotice = 100, &metav1.Duration{Duration: 2 * time.Minute}
	})
	w.launch(t)
	w.reconcile(t)
	w.reconcile(t)
	if told := seen(w.instance(t)); !told.LeavingAt.Equal(w.clock.Now().Add(2*time.Minute)) || told.Failure != nil {
		t.Errorf("it is %+v", told)
	}
	if left := w.reconcile(t); left != 2*time.Minute || len(w.nodes(t)) != 1 {
		t.Errorf("it goes in %s, and has the nodes %v", left, w.nodes(t))
	}
	w.pass(2 * time.Minute)
	w.reconcile(t)
	if told := seen(w.instance(t)); told.Failure == nil || told.Failure.Code != codeSpotReclaimed || len(w.nodes(t)) != 0 {
		t.Errorf("it is %+v with the nodes %v", told, w.nodes(t))
	}
}

// TestTerminationTakesItsTime: an instance that was told to end says so until it is gone, and crashes no more.
func TestTerminationTakesItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(k *v1alpha1.KwokMachines) {
		k.TerminationDelay, k.CrashPercent, k.FateWithin = &metav1.Duration{Duration: time.Minute}, 100, &metav1.Duration{Duration: time.Second}
	})
	w.launch(t)
	w.reconcile(t)
	w.terminate(t)
	at := w.instance(t).Status.TerminatingAt
	w.pass(30 * time.Second)
	w.terminate(t)
	if told := seen(w.instance(t)); !told.Going || !w.instance(t).Status.TerminatingAt.Equal(at) || w.reconcile(t) != 30*time.Second {
		t.Errorf("it is %+v", told)
	}
	if w.instance(t).Status.Failure != nil || len(w.nodes(t)) != 1 {
		t.Errorf("while it goes it is %+v with the nodes %v", w.instance(t).Status, w.nodes(t))
	}
	w.pass(30 * time.Second)
	w.reconcile(t)
	if w.instance(t) != nil || len(w.nodes(t)) != 0 {
		t.Errorf("it is %v with the nodes %v", w.instance(t), w.nodes(t))
	}
}

// TestOrphan: the cloud makes one more instance, which nobody is told of.
func TestOrphan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(k *v1alpha1.KwokMachines) { k.OrphanPercent = 100 })
	w.launch(t)
	w.launch(t)
	var list v1alpha1.KwokInstanceList
	if err := w.live.List(t.Context(), &list); err != nil || len(list.Items) != 2 {
		t.Fatalf("there are %v, %v", list.Items, err)
	}
	for i := range list.Items {
		told := seen(&list.Items[i])
		if orphaned := told.Key != "hpc-0"; orphaned != (told.Machine == "") || orphaned != (list.Items[i].Labels[v1alpha1.LabelMachine] == "") {
			t.Errorf("there is %+v", told)
		}
	}
}
