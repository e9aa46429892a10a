package system_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

const openPoolText = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: hpc}
spec: {maxSize: 40, template: {capacity: {cpu: "4", memory: 16Gi, pods: "110"}}, machines: {kwok: {bootDelay: 0s}}}
`

// desk is somebody with kubectl and the file of one MiniCluster.
type desk struct {
	*system.System
	key types.NamespacedName
	// flags are those of kubectl apply and kubectl diff.
	flags []string
}

// file is the MiniCluster with more of its spec and annotations. The toleration is the user's own: a list, which a file replaces.
func (d *desk) file(spec, annotations string) string {
	return fmt.Sprintf(`
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: %s, namespace: %s, annotations: {autoscaling.flux-framework.org/node-pools: hpc%s}}
spec: {%sminSize: 1, maxSize: 8, interactive: true, pod: {tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]},
  containers: [{image: "ubuntu:noble", runFlux: true, resources: {requests: {cpu: "3", memory: 1Gi}}}]}
`, d.key.Name, d.key.Namespace, annotations, spec)
}

// kubectl runs a command with a file. The output has what the API server warns of.
func (d *desk) kubectl(ctx context.Context, file string, arguments ...string) (string, error) {
	kubectl, err := d.Plane.Kubectl(ctx, os.Stderr)
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, kubectl, append([]string{
		"--kubeconfig=" + d.Kubeconfig, "--namespace=" + d.key.Namespace,
	}, arguments...)...)
	command.Stdin = strings.NewReader(file)
	command.Env = append(os.Environ(), "KUBE_EDITOR="+filepath.Join(d.Plane.Directory(), "editor"))
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err = command.Run()
	return out.String(), err
}

// apply applies a file. It must not be refused.
func (d *desk) apply(t *testing.T, file string) string {
	t.Helper()
	out, err := d.kubectl(t.Context(), file, append([]string{"apply", "-f", "-"}, d.flags...)...)
	if err != nil {
		t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
	return out
}

// noDrift waits until kubectl diff says nothing: what is stored is what applying the file would store. The Flux Operator may write the
// status between the two looks that kubectl takes, which is no drift; one that is stays.
func (d *desk) noDrift(t *testing.T, file string) {
	t.Helper()
	shows := ""
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		out, err := d.kubectl(ctx, file, append([]string{"diff", "-f", "-"}, d.flags...)...)
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
			return false, fmt.Errorf("kubectl diff: %w\n%s", err, out)
		}
		shows = out
		return err == nil, nil
	}); err != nil {
		t.Errorf("%v; kubectl diff shows\n%s", err, shows)
	}
}

func (d *desk) cluster(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	u := minicluster.New()
	if err := d.Client.Get(t.Context(), d.key, u); err != nil {
		t.Fatal(err)
	}
	return u
}

// stays checks that a MiniCluster has a size, and its member wants it.
func (d *desk) stays(t *testing.T, want int32) {
	t.Helper()
	if size, _, err := unstructured.NestedInt64(d.cluster(t).Object, "spec", "size"); err != nil || size != int64(want) {
		t.Errorf("the size is %d, not %d (%v)", size, want, err)
	}
	d.wants(t, want)
}

// notes checks which size of the file is noted, empty for none.
func (d *desk) notes(t *testing.T, want string) {
	t.Helper()
	if got := d.cluster(t).GetAnnotations()[v1alpha1.AnnotationFileSize]; got != want {
		t.Errorf("noted is that the file says %q, not %q", got, want)
	}
}

// wants waits until the member wants a size.
func (d *desk) wants(t *testing.T, want int32) {
	t.Helper()
	until(t, func(ctx context.Context) (bool, error) {
		member := &v1alpha1.EnsembleMember{}
		err := d.Client.Get(ctx, d.key, member)
		return member.Spec.Size == want, client.IgnoreNotFound(err)
	})
}

// request has the member want a size, as its algorithm would, and waits until as many pods run.
func (d *desk) request(t *testing.T, size int32) {
	t.Helper()
	member := &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Namespace: d.key.Namespace, Name: d.key.Name}}
	until(t, func(ctx context.Context) (bool, error) {
		// There is no member before the controller has seen the MiniCluster.
		err := patch(ctx, d.Client, member, fmt.Sprintf(`{"spec":{"size":%d}}`, size))
		return err == nil, client.IgnoreNotFound(err)
	})
	d.runs(t, int(size))
}

// runs waits until the MiniCluster has a size and as many pods run, and returns their UIDs.
func (d *desk) runs(t *testing.T, size int) map[types.UID]string {
	t.Helper()
	running := map[types.UID]string{}
	sized(t, d.Client, d.key, int64(size))
	until(t, func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		if err := d.Client.List(
			ctx, &pods, client.InNamespace(d.key.Namespace), client.MatchingLabels{batchv1.JobNameLabel: d.key.Name},
		); err != nil {
			return false, err
		}
		clear(running)
		for i := range pods.Items {
			if p := &pods.Items[i]; p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
				running[p.UID] = p.Name
			}
		}
		return len(running) == size && len(pods.Items) == size, nil
	})
	return running
}

// sizes records each size that a MiniCluster is ever stored with, until the end of the test.
type sizes struct {
	mu  sync.Mutex
	all []int64
}

func (s *sizes) since() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Compact(s.all)
	s.all = nil
	return all
}

func (d *desk) watch(t *testing.T) *sizes {
	t.Helper()
	dynamics, err := dynamic.NewForConfig(d.Plane.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	kind := minicluster.GroupVersionKind.GroupVersion().WithResource("miniclusters")
	watch, err := dynamics.Resource(kind).Namespace(d.key.Namespace).Watch(
		t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + d.key.Name},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watch.Stop)
	s := &sizes{}
	go func() {
		for event := range watch.ResultChan() {
			u, is := event.Object.(*unstructured.Unstructured)
			if !is {
				continue
			}
			size, _, _ := unstructured.NestedInt64(u.Object, "spec", "size")
			s.mu.Lock()
			s.all = append(s.all, size)
			s.mu.Unlock()
		}
	}()
	return s
}

// TestFiles: applying a file again changes nothing that was not changed in it, however it is applied, and what is no file counts as
// before. kubectl is the real one.
func TestFiles(t *testing.T) {
	t.Parallel()
	s, err := system.Start(t.Context(), system.Options{
		Progress: os.Stderr, LogDir: t.ArtifactDir(), AutoscalerFlags: []string{"--scan-interval=1s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Client.Create(t.Context(), objectOf(t, openPoolText)); err != nil {
		t.Fatal(err)
	}
	// What kubectl edit runs: it sets the size to 6.
	if err := os.WriteFile(
		filepath.Join(s.Plane.Directory(), "editor"), []byte("#!/bin/sh\nsed -i 's/^  size: .*/  size: 6/' \"$1\"\n"), 0o700,
	); err != nil {
		t.Fatal(err)
	}
	at := func(name string, flags ...string) *desk {
		return &desk{System: s, key: types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: name}, flags: flags}
	}
	t.Run("on the client's side", func(t *testing.T) { t.Parallel(); clientSide(t, at("client-side")) })
	t.Run("on the server's side", func(t *testing.T) {
		t.Parallel()
		serverSide(t, at("server-side", "--server-side", "--force-conflicts"), at("server-side", "--server-side"))
	})
	t.Run("from one side to the other", func(t *testing.T) {
		t.Parallel()
		sideways(t, at("sideways"), at("sideways", "--server-side", "--force-conflicts"))
	})
	t.Run("followed", func(t *testing.T) {
		t.Parallel()
		followed(t, at("followed"))
	})
	t.Run("without a size", func(t *testing.T) {
		t.Parallel()
		sizeless(t, at("sizeless"))
		sizeless(t, at("sizeless-server", "--server-side"))
	})
	t.Run("by kubectl ensemble", func(t *testing.T) { t.Parallel(); byPlugin(t, at("by-plugin")) })
	t.Run("by hand", func(t *testing.T) { t.Parallel(); byHand(t, at("by-hand")) })
	t.Run("the examples", func(t *testing.T) { t.Parallel(); examples(t, s) })
}

const (
	begins = "spec.size: 2 is the size to begin with; a file that is applied again does not undo a growth: leave spec.size out of the file"
	wayOut = "leave spec.size out of the file, or have the annotation autoscaling.flux-framework.org/size-edits: Follow"
)

// says checks what the user is warned of; nothing where text is empty.
func says(t *testing.T, out, text string) {
	t.Helper()
	if text == "" && strings.Contains(out, "Warning: spec.") || !strings.Contains(out, text) {
		t.Errorf("kubectl says\n%s\nand not %q", out, text)
	}
}

func clientSide(t *testing.T, d *desk) {
	t.Helper()
	file := func(size int) string { return d.file(fmt.Sprintf("size: %d, ", size), "") }
	says(t, d.apply(t, file(2)), begins)
	d.notes(t, "2")
	d.noDrift(t, file(2))
	says(t, d.apply(t, file(2)), "")
	d.tolerations(t)

	// It grows by request: neither the desired size nor a broker is lost to the file that was not changed.
	d.request(t, 5)
	before := d.runs(t, 5)
	seen := d.watch(t)
	for range 2 {
		d.noDrift(t, file(2))
		out := d.apply(t, file(2))
		says(t, out, "spec.size: stays 5, and the file says 2: that was not changed in the file, so what was done since stays")
		says(t, out, wayOut)
		d.stays(t, 5)
	}
	d.tolerations(t)
	// A lower size than it has grown to takes nothing back either.
	says(
		t, d.apply(t, file(3)),
		"spec.size: stays 5, and the file says 3: a file that is applied does not take back what the MiniCluster has grown by",
	)
	d.stays(t, 5)
	d.notes(t, "3")
	d.noDrift(t, file(3))
	if after := d.runs(t, 5); !maps.Equal(before, after) {
		t.Errorf("the pods are %v, and were %v", after, before)
	}
	if sizes := seen.since(); len(sizes) > 0 && !slices.Equal(sizes, []int64{5}) {
		t.Errorf("the MiniCluster had the sizes %d meanwhile", sizes)
	}

	// A size that was changed in the file is an edit.
	says(t, d.apply(t, file(7)), "")
	d.wants(t, 7)
	d.runs(t, 7)
	says(t, d.apply(t, file(6)), "")
	d.wants(t, 6)
	d.runs(t, 6)
	// It shrinks by request, and the file does not undo that.
	d.request(t, 4)
	says(t, d.apply(t, file(6)), "spec.size: stays 4, and the file says 6")
	d.stays(t, 4)
	d.noDrift(t, file(6))
	d.notes(t, "6")
	// The size is left out from now on: nothing of it changes, though 1 is what the definition puts there.
	says(t, d.apply(t, d.file("", "")), "")
	d.stays(t, 4)
	d.notes(t, "")
	d.noDrift(t, d.file("", ""))
	d.runs(t, 4)
	// It leaves with the file: that the size is not changed in it holds for this time too.
	d.apply(t, file(4))
	d.request(t, 5)
	d.apply(t, strings.Replace(file(4), "autoscaling.flux-framework.org/node-pools: hpc", "a: b", 1))
	sized(t, d.Client, d.key, 5)
}

// tolerations checks that the user's are what he has written, and that the pods are marked.
func (d *desk) tolerations(t *testing.T) {
	t.Helper()
	pod, _, err := unstructured.NestedMap(d.cluster(t).Object, "spec", "pod")
	want := fmt.Sprintf(`map[annotations:map[cluster-autoscaler.kubernetes.io/safe-to-evict:false] `+
		`labels:map[autoscaling.flux-framework.org/member:%s] `+
		`tolerations:[map[effect:NoSchedule key:nvidia.com/gpu operator:Exists]]]`, d.key.Name)
	if fmt.Sprint(pod) != want || err != nil {
		t.Errorf("spec.pod is %v (%v), not %s", pod, err, want)
	}
}

func serverSide(t *testing.T, d, unforced *desk) {
	t.Helper()
	file := func(size int) string { return d.file(fmt.Sprintf("size: %d, ", size), "") }
	says(t, unforced.apply(t, file(2)), begins)
	d.notes(t, "2")
	d.noDrift(t, file(2))
	says(t, unforced.apply(t, file(2)), "")
	d.tolerations(t)

	d.request(t, 5)
	before := d.runs(t, 5)
	seen := d.watch(t)
	// The field is the controller's now, and the API server says so to whoever does not insist.
	out, err := d.kubectl(t.Context(), file(2), "apply", "-f", "-", "--server-side")
	if err == nil || !strings.Contains(out, "conflict") || !strings.Contains(out, ".spec.size") {
		t.Errorf("applied without force: %v\n%s", err, out)
	}
	d.stays(t, 5)
	d.noDrift(t, file(2))
	says(t, d.apply(t, file(2)), "spec.size: stays 5, and the file says 2: that was not changed in the file")
	d.stays(t, 5)
	// From here on it is the file's again.
	says(t, unforced.apply(t, file(2)), "spec.size: stays 5, and the file says 2")
	d.stays(t, 5)
	says(t, d.apply(t, file(3)), "does not take back what the MiniCluster has grown by")
	d.stays(t, 5)
	d.notes(t, "3")
	d.noDrift(t, file(3))
	d.tolerations(t)
	if after := d.runs(t, 5); !maps.Equal(before, after) {
		t.Errorf("the pods are %v, and were %v", after, before)
	}
	if sizes := seen.since(); len(sizes) > 0 && !slices.Equal(sizes, []int64{5}) {
		t.Errorf("the MiniCluster had the sizes %d meanwhile", sizes)
	}

	// The file is brought in line with what is there, and is then the one that decides.
	says(t, d.apply(t, file(5)), "")
	d.notes(t, "5")
	says(t, d.apply(t, file(3)), "")
	d.wants(t, 3)
	d.runs(t, 3)
	d.request(t, 5)
	says(t, d.apply(t, file(3)), "spec.size: stays 5")
	// The size is left out from now on.
	says(t, d.apply(t, d.file("", "")), "")
	d.stays(t, 5)
	d.notes(t, "")
	d.noDrift(t, d.file("", ""))
	d.runs(t, 5)
}

// sideways: a file that was applied on the client's side is applied on the server's.
func sideways(t *testing.T, before, after *desk) {
	t.Helper()
	file := before.file("size: 2, ", "")
	before.apply(t, file)
	before.request(t, 4)
	before.apply(t, file)
	seen := before.watch(t)
	says(t, after.apply(t, file), "spec.size: stays 4, and the file says 2")
	after.stays(t, 4)
	after.notes(t, "2")
	after.noDrift(t, file)
	after.apply(t, file)
	before.apply(t, file)
	before.stays(t, 4)
	before.notes(t, "2")
	if sizes := seen.since(); len(sizes) > 0 && !slices.Equal(sizes, []int64{4}) {
		t.Errorf("the MiniCluster had the sizes %d meanwhile", sizes)
	}
}

// followed: with the annotation what is in the file is followed each time that it is applied.
func followed(t *testing.T, d *desk) {
	t.Helper()
	file := d.file("size: 2, ", ", autoscaling.flux-framework.org/size-edits: Follow")
	says(t, d.apply(t, file), "")
	d.request(t, 3)
	says(t, d.apply(t, file), "")
	d.wants(t, 2)
	d.runs(t, 2)
	out, err := d.kubectl(t.Context(), d.file("", ", autoscaling.flux-framework.org/size-edits: Never"), "apply", "-f", "-")
	if err == nil || !strings.Contains(
		out, `metadata.annotations[autoscaling.flux-framework.org/size-edits]: Invalid value: "Never": it has to be Follow, or not there`,
	) {
		t.Errorf("another word is answered %v\n%s", err, out)
	}
	d.wants(t, 2)
}

// sizeless: a file that leaves the size out begins with minSize, and never changes the size.
func sizeless(t *testing.T, d *desk) {
	t.Helper()
	file := strings.Replace(d.file("", ""), "minSize: 1", "minSize: 2", 1)
	says(t, d.apply(t, file), "")
	d.runs(t, 2)
	d.noDrift(t, file)
	d.request(t, 3)
	d.noDrift(t, file)
	says(t, d.apply(t, file), "")
	d.stays(t, 3)
	d.notes(t, "")
	// What marks the pods outlives a file that has nothing of them any more.
	if pod, _, err := unstructured.NestedMap(
		d.cluster(t).Object, "spec", "pod", "labels",
	); err != nil || pod[v1alpha1.LabelMember] != d.key.Name {
		t.Errorf("the labels of the pods are %v, %v", pod, err)
	}
	labelled := strings.Replace(file, "pod: {", "pod: {labels: {a: b}, annotations: {c: d}, ", 1)
	d.apply(t, labelled)
	d.noDrift(t, labelled)
	d.apply(t, strings.Replace(file, "pod: {tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]},", "", 1))
	if pod, _, err := unstructured.NestedMap(d.cluster(t).Object, "spec", "pod"); err != nil ||
		fmt.Sprint(pod) != fmt.Sprintf(
			"map[annotations:map[cluster-autoscaler.kubernetes.io/safe-to-evict:false] labels:map[autoscaling.flux-framework.org/member:%s]]",
			d.key.Name,
		) {
		t.Errorf("spec.pod is %v, %v", pod, err)
	}
}

// byHand: what is no file is a request, also where it sets the size that the file says.
func byHand(t *testing.T, d *desk) {
	t.Helper()
	file := d.file("size: 2, ", "")
	d.apply(t, file)
	d.request(t, 3)
	if out, err := d.kubectl(t.Context(), "", "scale", "minicluster", d.key.Name, "--replicas=2"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.wants(t, 2)
	d.runs(t, 2)
	d.request(t, 3)
	if out, err := d.kubectl(t.Context(), "", "patch", "minicluster", d.key.Name, "--type=merge", "-p", `{"spec":{"size":2}}`); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.wants(t, 2)
	d.runs(t, 2)
	// An autoscaler writes the scale of the MiniCluster, or of its member.
	d.request(t, 3)
	scale := objectOf(t, "{apiVersion: autoscaling/v1, kind: Scale, spec: {replicas: 2}}")
	if err := d.Client.SubResource("scale").Update(t.Context(), d.cluster(t), client.WithSubResourceBody(scale)); err != nil {
		t.Fatal(err)
	}
	d.wants(t, 2)
	// kubectl edit writes last-applied-configuration along, and is nobody who applies a file.
	if out, err := d.kubectl(t.Context(), "", "edit", "minicluster", d.key.Name); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.wants(t, 6)
	d.notes(t, "2")
	d.runs(t, 6)
	says(t, d.apply(t, file), "spec.size: stays 6, and the file says 2")
	d.stays(t, 6)
}
