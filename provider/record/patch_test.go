package record

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func taint(key, value string) corev1.Taint {
	return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffectNoSchedule}
}

// nodeWith is a node as it was when it was looked at.
func nodeWith(labels, annotations map[string]string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: "7", Labels: labels, Annotations: annotations},
		Spec:       corev1.NodeSpec{Taints: taints},
	}
}

// patched is the node that the API server has, when that is not what was looked at, after the patch.
func patched(t *testing.T, now, before, after *corev1.Node) (*corev1.Node, error) {
	t.Helper()
	patch, err := NodePatch(before, after)
	if err != nil || patch == nil {
		t.Fatalf("the patch is %v, %v", patch, err)
	}
	server := fake.NewClientBuilder().WithObjects(now.DeepCopy()).Build()
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: now.Name}}
	err = server.Patch(t.Context(), out, patch)
	return out, err
}

type words = map[string]string

// TestNodePatch: each kind of change comes to the node, and nothing else.
func TestNodePatch(t *testing.T) {
	t.Parallel()
	a, b, c := taint("a", "1"), taint("b", "1"), taint("c", "1")
	for name, row := range map[string]struct{ before, after *corev1.Node }{
		"the first label and annotation": {nodeWith(nil, nil), nodeWith(words{"l": "1"}, words{"x": "1"})},
		"labels and annotations are added, changed and removed": {
			nodeWith(words{"keep": "1", "change": "1", "remove": "1"}, words{"keep": "1", "change": "1", "remove": "1"}),
			nodeWith(words{"keep": "1", "change": "2", "add": "1"}, words{"keep": "1", "change": "2", "add": ""}),
		},
		"keys with slashes and tildes": {nodeWith(words{"a.io/b~c": "1", "k": "1"}, words{"a.io/b": "1", "a~1b": "1"}),
			nodeWith(words{"a.io/b~c": "2", "k": "1"}, words{"a~1b": "2"})},
		"the last label is removed":       {nodeWith(words{"l": "1"}, nil), nodeWith(nil, nil)},
		"the first taint":                 {nodeWith(nil, nil), nodeWith(nil, nil, a)},
		"the first taints":                {nodeWith(nil, nil), nodeWith(nil, nil, a, b)},
		"a taint more":                    {nodeWith(nil, nil, a), nodeWith(nil, nil, a, b)},
		"the first of the taints is gone": {nodeWith(nil, nil, a, b, c), nodeWith(nil, nil, b, c)},
		"one in the middle is gone":       {nodeWith(nil, nil, a, b, c), nodeWith(nil, nil, a, c)},
		"several are gone":                {nodeWith(nil, nil, a, b, c), nodeWith(nil, nil, b)},
		"the only taint is gone":          {nodeWith(nil, nil, a), nodeWith(nil, nil)},
		"another value":                   {nodeWith(nil, nil, a, b), nodeWith(nil, nil, b, taint("a", "2"))},
		"all taints are others":           {nodeWith(nil, nil, a, b), nodeWith(nil, nil, c)},
		"everything":                      {nodeWith(words{"l": "1"}, words{"x": "1"}, a), nodeWith(words{"l": "2"}, words{"y": "1"}, b)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := patched(t, row.before, row.before, row.after)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got.Labels, row.after.Labels) || !maps.Equal(got.Annotations, row.after.Annotations) {
				t.Errorf("the labels are %v, the annotations %v; want %v and %v", got.Labels, got.Annotations, row.after.Labels, row.after.Annotations)
			}
			if diff := cmp.Diff(row.after.Spec.Taints, got.Spec.Taints); diff != "" && len(row.after.Spec.Taints)+len(got.Spec.Taints) > 0 {
				t.Errorf("wrong taints (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNodePatchOfNothing: where nothing differs there is no patch.
func TestNodePatchOfNothing(t *testing.T) {
	t.Parallel()
	full := nodeWith(words{"l": "1"}, words{"x": "1"}, taint("a", "1"))
	newer := full.DeepCopy()
	newer.ResourceVersion, newer.Status.Phase = "8", corev1.NodeRunning
	newer.Spec.Taints[0].TimeAdded = &metav1.Time{}
	for name, row := range map[string][2]*corev1.Node{
		"nothing at all": {nodeWith(nil, nil), nodeWith(words{}, words{})},
		"the same":       {full, full.DeepCopy()},
		"something else": {full, newer},
		"another order":  {nodeWith(nil, nil, taint("a", ""), taint("b", "")), nodeWith(nil, nil, taint("b", ""), taint("a", ""))},
	} {
		if patch, err := NodePatch(row[0], row[1]); err != nil || patch != nil {
			t.Errorf("%s: the patch is %v, %v", name, patch, err)
		}
	}
}

// TestNodePatchBesideOthers: what somebody else has written meanwhile stays, or the patch is refused.
func TestNodePatchBesideOthers(t *testing.T) {
	t.Parallel()
	ours, kept, theirs := taint("ours", "1"), taint("kept", "1"), taint("theirs", "1")
	for name, row := range map[string]struct {
		before, after, now *corev1.Node
		// want are the taints in the end, nil where the patch is to be refused.
		want []corev1.Taint
	}{
		"a taint is added beside theirs": {
			nodeWith(nil, nil, kept), nodeWith(nil, nil, kept, ours), nodeWith(nil, nil, kept, theirs), []corev1.Taint{kept, theirs, ours},
		},
		"a taint is removed before theirs": {
			nodeWith(nil, nil, ours, kept), nodeWith(nil, nil, kept), nodeWith(nil, nil, ours, kept, theirs), []corev1.Taint{kept, theirs},
		},
		"theirs has come where ours was":       {nodeWith(nil, nil, ours), nodeWith(nil, nil), nodeWith(nil, nil, theirs, ours), nil},
		"ours was removed by another":          {nodeWith(nil, nil, ours), nodeWith(nil, nil), nodeWith(nil, nil), nil},
		"the first taint is theirs, not ours":  {nodeWith(nil, nil), nodeWith(nil, nil, ours), nodeWith(nil, nil, theirs), nil},
		"our first taint replaces their first": {nodeWith(nil, nil, ours), nodeWith(nil, nil, kept), nodeWith(nil, nil, theirs), nil},
		"the first annotation is theirs":       {nodeWith(nil, nil), nodeWith(nil, words{"our": "1"}), nodeWith(nil, nil), nil},
		"the first label is theirs": {nodeWith(nil, words{"x": "1"}), nodeWith(words{"our": "1"}, words{"x": "1"}),
			nodeWith(words{"their": "1"}, nil), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := row.now.DeepCopy()
			now.ResourceVersion = "8"
			now.Annotations = words{"their": "annotation"}
			got, err := patched(t, now, row.before, row.after)
			if row.want == nil {
				if err == nil {
					t.Errorf("it is not refused: %v", got.Spec.Taints)
				}
				return
			}
			if diff := cmp.Diff(row.want, got.Spec.Taints); err != nil || diff != "" {
				t.Errorf("%v; wrong taints (-want +got):\n%s", err, diff)
			}
			if got.Annotations["their"] == "" {
				t.Error("an annotation of another is gone")
			}
		})
	}
}
