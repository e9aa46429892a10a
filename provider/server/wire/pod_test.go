package wire_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

// owned is a pod with owners, of which the last one controls it.
func owned(owners ...metav1.OwnerReference) *corev1.Pod {
	controls := true
	if len(owners) > 0 {
		owners[len(owners)-1].Controller = &controls
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "m-0-abcde", Namespace: "ns", Labels: map[string]string{"job-name": "m"}, OwnerReferences: owners},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{
				{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}},
			},
		},
	}
}

// tolerations is how many a pod may have here.
const tolerations = 4

func encode(tb testing.TB, pod *corev1.Pod) []byte {
	tb.Helper()
	encoded, err := pod.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return encoded
}

// TestReadPod: the namespace, the Job that controls it, and what it tolerates.
func TestReadPod(t *testing.T) {
	t.Parallel()
	job := metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "m"}
	tolerant := owned(job)
	seconds := int64(30)
	tolerant.Spec.Tolerations = []corev1.Toleration{
		{Key: "dedicated", Operator: corev1.TolerationOpEqual, Value: "hpc", Effect: corev1.TaintEffectNoSchedule},
		{Operator: corev1.TolerationOpExists, TolerationSeconds: &seconds},
	}
	for name, row := range map[string]struct {
		pod  *corev1.Pod
		want wire.Pod
	}{
		"of a Job": {owned(job), wire.Pod{Namespace: "ns", Job: "m"}},
		"of a Job among its owners": {
			owned(metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "x"}, job), wire.Pod{Namespace: "ns", Job: "m"},
		},
		"owned, but not controlled": {
			owned(job, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "x"}), wire.Pod{Namespace: "ns"},
		},
		"of a Job of no member": {
			owned(metav1.OwnerReference{APIVersion: "batch.volcano.sh/v1alpha1", Kind: "Job", Name: "m"}), wire.Pod{Namespace: "ns"},
		},
		"of nobody":                   {owned(), wire.Pod{Namespace: "ns"}},
		"that tolerates":              {tolerant, wire.Pod{Namespace: "ns", Job: "m", Tolerations: tolerant.Spec.Tolerations}},
		"with nothing that we read":   {&corev1.Pod{}, wire.Pod{}},
		"with a spec and no metadata": {&corev1.Pod{Spec: tolerant.Spec}, wire.Pod{Tolerations: tolerant.Spec.Tolerations}},
	} {
		got, err := wire.ReadPod(encode(t, row.pod), tolerations)
		if err != nil {
			t.Fatalf("a pod %s: %v", name, err)
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("a pod %s (-want +got):\n%s", name, diff)
		}
	}
}

// TestReadPodRefuses: what is no pod is refused, with the field that cannot be read.
func TestReadPodRefuses(t *testing.T) {
	t.Parallel()
	message := func(field protowire.Number, inside ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), inside)
	}
	for name, row := range map[string]struct {
		encoded []byte
		says    string
	}{
		"text":                      {[]byte("garbage"), "read field 12: "},
		"a pod cut off":             {encode(t, owned())[:20], "read field 1: "},
		"metadata that is a number": {[]byte{0x08, 1}, "metadata: it has wire type 0, not 2"},
		"metadata that is text":     {message(1, []byte("garbage")...), "metadata: read field 12: "},
		"a namespace of a number":   {message(1, 0x18, 1), "metadata: namespace: it has wire type 0, not 2"},
		"an owner that is text":     {message(1, message(13, []byte("garbage")...)...), "metadata: ownerReferences: "},
		"a toleration that is text": {message(2, message(22, []byte("garbage")...)...), "spec: tolerations: "},
		"a toleration too many": {
			message(2, bytes.Repeat([]byte{0xb2, 0x01, 0}, tolerations+1)...),
			"spec: there are more than 4 tolerations (--max-expander-tolerations)",
		},
		"a long namespace": {
			message(1, message(3, make([]byte, 64)...)...), "metadata: namespace: it has 64 bytes; a namespace has at most 63",
		},
		"a long name of a Job": {encode(t, owned(metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: strings.Repeat("m", 254)})),
			"metadata: ownerReferences: the name of the Job has 254 bytes; a name has at most 253"},
		"a toleration of a number":   {message(2, 0xb0, 0x01, 1), "spec: tolerations: it has wire type 0, not 2"},
		"a spec longer than the pod": {[]byte{0x12, 9, 1}, "read field 2: "},
	} {
		if pod, err := wire.ReadPod(row.encoded, tolerations); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %+v, %v; want %s", name, pod, err, row.says)
		}
	}
}

// FuzzReadPod: no bytes make it panic, and it reads a pod as Kubernetes does.
func FuzzReadPod(f *testing.F) {
	pod := owned(metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "m"})
	pod.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
	f.Add(encode(f, pod))
	f.Add(encode(f, owned()))
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		_, _ = wire.ReadPod(encoded, tolerations)
		var pod corev1.Pod
		if pod.Unmarshal(encoded) != nil {
			return
		}
		// Again, because there are encodings that no encoder writes and only one of the two accepts.
		got, err := wire.ReadPod(encode(t, &pod), tolerations)
		owner := metav1.GetControllerOf(&pod)
		if len(pod.Spec.Tolerations) > tolerations || len(pod.Namespace) > 63 || owner != nil && len(owner.Name) > 253 {
			return
		}
		if err != nil {
			t.Fatalf("a pod is refused: %s", err)
		}
		want := wire.Pod{Namespace: pod.Namespace, Tolerations: pod.Spec.Tolerations}
		if owner != nil && owner.APIVersion == "batch/v1" && owner.Kind == "Job" {
			want.Job = owner.Name
		}
		if diff := cmp.Diff(fmt.Sprintf("%q", []any{want}), fmt.Sprintf("%q", []any{got})); diff != "" {
			t.Errorf("pod (-kubernetes +ours):\n%s", diff)
		}
	})
}
