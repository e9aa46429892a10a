package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// TestQuick: the whole benchmark works, in small.
func TestQuick(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds the programs and starts a control plane")
	}
	var out strings.Builder
	if err := dispatch(t.Context(), []string{"-quick"}, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{provider, controller, "in the API server", "made up by a proxy"} {
		if strings.Count(out.String(), want) < 2 {
			t.Errorf("the table has not two rows with %q:\n%s", want, out.String())
		}
	}
}

func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for argument, want := range map[string]string{
		"--nodes=100":                  "--pools is 50 and --nodes 100",
		"--jobs=0":                     "--jobs is 0",
		"--pods=0 --stored-pods=0":     "--stored-pods is 0 and --pods 0",
		"--events=0":                   "--events is 0",
		"--window=1ms":                 "--window is 1ms",
		"all":                          `unknown argument "all"`,
		"--quick --nodes=1 --window=x": "invalid value",
	} {
		if _, err := parse(strings.Fields(argument), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", argument, err, want)
		}
	}
}

// TestPods: pods are as large as real ones, and no two have one name or UID.
func TestPods(t *testing.T) {
	t.Parallel()
	pods := newMaker([]string{"a", "b", "c"}, []types.UID{"1", "2"})
	names, owners := map[types.NamespacedName]bool{}, map[string]int{}
	const count = 3000
	for i := range count {
		pod := pods.pod(i, 0, uint64(i))
		if size := pod.Size(); size < 4<<10 || size > 8<<10 {
			t.Fatalf("pod %d has %d bytes", i, size)
		}
		names[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}] = true
		names[types.NamespacedName{Name: string(pod.UID)}] = true
		owners[pod.OwnerReferences[0].Kind]++
	}
	if len(names) != 2*count || owners["Job"] != count/3 || owners["DaemonSet"] == 0 || owners["ReplicaSet"] == 0 {
		t.Errorf("%d names and UIDs of %d pods, of %v", len(names), count, owners)
	}
}

// TestSteps: pods that go are there, and those that come are not.
func TestSteps(t *testing.T) {
	t.Parallel()
	const pods = 500
	gone := map[int]bool{}
	for n := range 10 * pods {
		step := stepOf(n, pods)
		if step.kind != stepModify && gone[step.pod] != (step.kind == stepAdd) {
			t.Fatalf("step %d: pod %d is gone: %t, and the step is %d", n, step.pod, gone[step.pod], step.kind)
		}
		switch step.kind {
		case stepDelete:
			gone[step.pod] = true
		case stepAdd:
			delete(gone, step.pod)
		}
		if len(gone) > absent+1 {
			t.Fatalf("step %d: %d pods are gone", n, len(gone))
		}
	}
}

// TestWatch: client-go understands what the proxy answers: all pods, the bookmark after them, and then what changes.
func TestWatch(t *testing.T) {
	t.Parallel()
	wire, _ := runtime.SerializerInfoForMediaType(clientgoscheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	p := &proxy{pods: newMaker([]string{"a", "b"}, []types.UID{"1"}), count: 151, wire: wire}
	p.rate.Store(1000)
	server := httptest.NewServer(http.HandlerFunc(p.watch))
	t.Cleanup(server.Close)
	clients, err := kubernetes.NewForConfig(
		&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeProtobuf}},
	)
	if err != nil {
		t.Fatal(err)
	}
	alive := fields.ParseSelectorOrDie("status.phase!=" + string(corev1.PodSucceeded)).String()
	for selector, want := range map[string]int{"": 151, alive: 149} {
		watcher, err := clients.CoreV1().Pods("").Watch(
			t.Context(), metav1.ListOptions{FieldSelector: selector, SendInitialEvents: new(true), AllowWatchBookmarks: true},
		)
		if err != nil {
			t.Fatal(err)
		}
		got := map[watch.EventType]int{}
		ended := false
		for event := range watcher.ResultChan() {
			pod, is := event.Object.(*corev1.Pod)
			if !is {
				t.Fatalf("the watch tells of a %T", event.Object)
			}
			got[event.Type]++
			if event.Type == watch.Bookmark {
				ended = pod.Annotations[metav1.InitialEventsAnnotationKey] == "true"
				if got[watch.Added] != want || len(got) != 2 {
					t.Errorf("with the selector %q there are %v before the bookmark, and %d pods", selector, got, want)
				}
			}
			if ended && got[watch.Modified] > 10 && got[watch.Deleted] > 5 {
				break
			}
		}
		watcher.Stop()
	}
}
