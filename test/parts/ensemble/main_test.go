// Package ensemble tests the controller of Ensembles in its own process, on a real API server with the garbage collector.
// The Flux Operator is not there: what counts is what it is given.
package ensemble

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// cluster is what all tests here run on. TestMain sets it once.
var cluster inprocess.Cluster

func TestMain(m *testing.M) { inprocess.Main(m, &cluster, controlplane.All) }

const endpoint = "ensemble-autoscaler.somewhere.svc:50051"

// start starts a controller that dies when it is about to make the write after so many; a negative number is none.
func start(t *testing.T, most int64) *inprocess.Mortal {
	t.Helper()
	return startWith(t, most, func(c client.Client) client.Client { return c })
}

// startWith is start for a controller whose client is another than its manager's.
func startWith(t *testing.T, most int64, wrap func(client.Client) client.Client) *inprocess.Mortal {
	t.Helper()
	m := cluster.NewMortal(t, most, manager.Options{Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}}})
	r := &ensemble.Reconciler{
		Client: wrap(m.GetClient()), Live: m.GetAPIReader(), Events: m.GetEventRecorder("ensemble-test"), Clock: clock.RealClock{},
		Settings: ensemble.Settings{Endpoint: endpoint},
	}
	if err := r.SetupWithManager(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	m.Run(t, func(ctx context.Context) error { <-ctx.Done(); return nil }, ensemble.Kinds()...)
	return m
}

// place is a namespace of a test's own.
func place(t *testing.T, name string) {
	t.Helper()
	if err := cluster.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		t.Fatal(err)
	}
}

// text is an ensemble.yaml that says a word.
func text(word string) string {
	return fmt.Sprintf("jobs:\n- {name: say, command: echo %s}\nrules:\n- {trigger: start, action: {name: submit, label: say}}\n", word)
}

// beginning begins with a size and grows to twice that.
func beginning(size int, pools ...string) v1alpha1.Member {
	return v1alpha1.Member{
		MiniCluster: runtime.RawExtension{
			Raw: fmt.Appendf(nil, `{"spec": {"size": %d, "minSize": 1, "maxSize": %d, "containers": [{"image": "i"}]}}`, size, 2*size),
		},
		Ensemble: text("hello"), NodePools: pools,
	}
}

func newEnsemble(namespace string, members ...v1alpha1.Member) *v1alpha1.Ensemble {
	return &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo"}, Spec: v1alpha1.EnsembleSpec{Members: members}}
}

// seen is what a user sees of an Ensemble.
type seen struct {
	*v1alpha1.Ensemble
	clusters   map[string]*member.Workload
	configMaps map[string]string
}

func look(ctx context.Context, namespace string) (*seen, error) {
	s := &seen{Ensemble: &v1alpha1.Ensemble{}, clusters: map[string]*member.Workload{}, configMaps: map[string]string{}}
	if err := cluster.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "demo"}, s.Ensemble); client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	list := minicluster.NewList()
	if err := cluster.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	for i := range list.Items {
		parsed, err := minicluster.Parse(&list.Items[i])
		if err != nil {
			return nil, err
		}
		s.clusters[list.Items[i].GetName()] = parsed
	}
	var maps corev1.ConfigMapList
	if err := cluster.Client.List(ctx, &maps, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	for i := range maps.Items {
		if word, has := maps.Items[i].Data["ensemble.yaml"]; has {
			s.configMaps[maps.Items[i].Name] = word
		}
	}
	return s, nil
}

// until waits until nothing is missing.
func until(t *testing.T, namespace string, missing func(*seen) string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, namespace)
		if err != nil {
			return "", err
		}
		return missing(s), nil
	})
}

// says is what a condition says, as in True Valid: nothing is wrong.
func (s *seen) says(kind string) string {
	c := meta.FindStatusCondition(s.Status.Conditions, kind)
	if c == nil || c.ObservedGeneration != s.Generation {
		return "nothing"
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
}
