package admission

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// The entries of managedFields that matter, by who made them.
const (
	bySize    = `f:spec: {f:size: {}}`
	byApply   = `f:metadata: {f:annotations: {"f:kubectl.kubernetes.io/last-applied-configuration": {}}}`
	onServer  = `{manager: kubectl, operation: Apply, fieldsV1: {` + bySize + `}}`
	onClient  = `{manager: kubectl-client-side-apply, operation: Update, fieldsV1: {` + byApply + `, ` + bySize + `}}`
	annotated = `{manager: kubectl-client-side-apply, operation: Update, fieldsV1: {` + byApply + `}}`
	edited    = `{manager: kubectl-edit, operation: Update, fieldsV1: {` + byApply + `, ` + bySize + `}}`
	ours      = `{manager: controller, operation: Update, fieldsV1: {` + bySize + `}}`
	scaled    = `{manager: kubectl, operation: Update, subresource: scale, fieldsV1: {` + bySize + `}}`
	argo      = `{manager: argocd-controller, operation: Update, fieldsV1: {` + byApply + `, ` + bySize + `}}`
	argoNote  = `{manager: argocd-controller, operation: Update, fieldsV1: {` + byApply + `}}`
)

// stored is a MiniCluster with a size, which last-applied-configuration says (empty for no such annotation), which is noted (likewise),
// and the entries of managedFields.
func stored(t *testing.T, size, said, noted string, entries ...string) *unstructured.Unstructured {
	t.Helper()
	var annotations []string
	if said != "" {
		annotations = append(annotations, fmt.Sprintf("kubectl.kubernetes.io/last-applied-configuration: '%s'", said))
	}
	if noted != "" {
		annotations = append(annotations, fmt.Sprintf("%s: %q", v1alpha1.AnnotationFileSize, noted))
	}
	u := cluster(t, "a", strings.Join(annotations, ", "), `{`+size+`}`)
	managed := cluster(t, "", "", `{m: [`+strings.Join(entries, ", ")+`]}`)
	list, _, err := unstructured.NestedSlice(managed.Object, "spec", "m")
	if err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedSlice(u.Object, list, "metadata", "managedFields"); err != nil {
		t.Fatal(err)
	}
	return u
}

// TestSizeOfApplied: who applies a file is known from those who do not, and of a file only what was changed in it is followed.
func TestSizeOfApplied(t *testing.T) {
	t.Parallel()
	const (
		two, three, none = `{"spec":{"size":2}}`, `{"spec":{"size":3}}`, `{"spec":{}}`
		unchanged        = "that was not changed in the file, so what was done since stays; "
		grown            = "a file that is applied does not take back what the MiniCluster has grown by; "
	)
	stays := func(was, said int, why string) string {
		return fmt.Sprintf("spec.size: stays %d, and the file says %d: %s", was, said, why) + wayOut
	}
	for name, row := range map[string]struct {
		before, after *unstructured.Unstructured
		manager       string
		// size and note are those of what is stored.
		size      int32
		note, say string
	}{
		// On the client's side.
		"the same file after a growth": {
			stored(t, "size: 5", two, "2", annotated, ours), stored(t, "size: 2", two, "2", onClient), "kubectl-client-side-apply", 5, "2",
			stays(5, 2, unchanged),
		},
		"the same file after a shrink": {
			stored(t, "size: 1", two, "2", annotated, ours), stored(t, "size: 2", two, "2", onClient), "kubectl-client-side-apply", 1, "2",
			stays(1, 2, unchanged),
		},
		"the same file of another applier": {
			stored(t, "size: 5", two, "2", argoNote, ours), stored(t, "size: 2", two, "2", argo), "argocd-controller", 5, "2",
			stays(5, 2, unchanged),
		},
		"the same file, of before this was noted": {
			stored(t, "size: 5", two, "", annotated, ours), stored(t, "size: 2", two, "", onClient), "kubectl-client-side-apply", 5, "2",
			stays(5, 2, unchanged),
		},
		"another file, that is lower than it is now": {
			stored(t, "size: 5", two, "2", annotated, ours), stored(t, "size: 3", three, "2", onClient), "kubectl-client-side-apply", 5, "3",
			stays(5, 3, grown),
		},
		"another file, that is higher": {
			stored(t, "size: 2", two, "2", onClient), stored(t, "size: 3", three, "2", onClient), "kubectl-client-side-apply", 3, "3", "",
		},
		"another file, that is lower, without a growth": {
			stored(t, "size: 3", three, "3", onClient), stored(t, "size: 2", two, "3", onClient), "kubectl-client-side-apply", 2, "2", ""},
		"another file, that is lower, after a shrink": {
			stored(t, "size: 4", `{"spec":{"size":6}}`, "6", annotated, ours), stored(t, "size: 3", three, "6", onClient),
			"kubectl-client-side-apply", 3, "3", "",
		},
		"another file, that says what it has": {
			stored(t, "size: 3", two, "2", annotated, ours), stored(t, "size: 3", three, "2", annotated, ours), "kubectl-client-side-apply", 3,
			"3", "",
		},
		"a file without a size": {
			stored(t, "size: 5", two, "2", annotated, ours), stored(t, "size: 1", none, "2", onClient), "kubectl-client-side-apply", 5, "", "",
		},
		"a file for what was made otherwise": {
			stored(t, "size: 5", "", "", ours), stored(t, "size: 2", two, "", onClient), "kubectl-client-side-apply", 5, "2", stays(5, 2, grown),
		},
		"a file after an edit by hand, of before this was noted": {
			stored(t, "size: 5", `{"spec":{"size":5}}`, "", edited), stored(t, "size: 2", two, "", onClient), "kubectl-client-side-apply", 5, "2",
			stays(5, 2, grown),
		},
		"the same file, whose annotation another has": {stored(
			t, "size: 4", two, "2", `{manager: kubectl, operation: Apply, fieldsV1: {`+byApply+`}}`, ours,
		),
			stored(
				t, "size: 2", two, "2", `{manager: kubectl, operation: Apply, fieldsV1: {`+byApply+`}}`,
				`{manager: kubectl-client-side-apply, operation: Update, fieldsV1: {`+bySize+`}}`,
			), "kubectl-client-side-apply", 4, "2", stays(4, 2, unchanged)},

		// By hand, or by others: what they write is stored, and nothing is noted.
		"an edit": {
			stored(t, "size: 5", two, "2", annotated, ours), stored(t, "size: 3", three, "2", edited), "kubectl-edit", 3, "2", "",
		},
		"an edit back to the file": {
			stored(t, "size: 5", two, "2", annotated, ours),
			stored(t, "size: 2", two, "2", annotated, `{manager: kubectl-edit, operation: Update, fieldsV1: {`+bySize+`}}`), "kubectl-edit", 2,
			"2", "",
		},
		"a patch back to the file": {
			stored(t, "size: 5", two, "2", annotated, ours),
			stored(t, "size: 2", two, "2", annotated, `{manager: robot, operation: Update, fieldsV1: {`+bySize+`}}`), "robot", 2, "2", "",
		},
		"a scale back to the file": {
			stored(t, "size: 5", two, "2", annotated, ours), stored(t, "size: 2", two, "2", annotated, scaled), "kubectl", 2, "2", "",
		},
		"the controller": {
			stored(t, "size: 2", two, "2", onClient), stored(t, "size: 5", two, "2", annotated, ours), "controller", 5, "2", "",
		},
		"the controller, of a file on the server": {
			stored(t, "size: 2", "", "2", onServer), stored(t, "size: 5", "", "2", ours), "controller", 5, "2", "",
		},
		"one that nobody owns": {stored(t, "size: 5", "", "2", ours), stored(t, "size: 1", "", "2"), "robot", 1, "2", ""},
		"an annotation that is not read": {
			stored(t, "size: 5", "{", "2", annotated), stored(t, "size: 2", "[", "2", onClient), "kubectl-client-side-apply", 2, "2", "",
		},

		// On the server's side.
		"forced after a growth": {
			stored(t, "size: 5", "", "2", ours), stored(t, "size: 2", "", "2", onServer), "kubectl", 5, "2", stays(5, 2, unchanged),
		},
		"applied again": {
			stored(t, "size: 5", "", "2", onServer), stored(t, "size: 2", "", "2", onServer), "kubectl", 5, "2", stays(5, 2, unchanged),
		},
		"forced lower": {
			stored(t, "size: 5", "", "2", ours), stored(t, "size: 3", "", "2", onServer), "kubectl", 5, "3", stays(5, 3, grown),
		},
		"forced where nothing was noted": {
			stored(t, "size: 5", "", "", ours), stored(t, "size: 2", "", "", onServer), "kubectl", 5, "2", stays(5, 2, grown),
		},
		"higher": {
			stored(t, "size: 5", "", "2", onServer), stored(t, "size: 7", "", "2", onServer), "kubectl", 7, "7", "",
		},
		"what it has": {
			stored(t, "size: 5", "", "2", ours), stored(t, "size: 5", "", "2", ours, onServer), "kubectl", 5, "5", "",
		},
		"another write under the applier's name": {
			stored(t, "size: 5", "", "2", onServer),
			stored(t, "size: 5", "", "2", onServer, `{manager: kubectl, operation: Update, fieldsV1: {f:metadata: {}}}`), "kubectl", 5, "2", "",
		},
		"another's write": {
			stored(t, "size: 5", "", "2", onServer), stored(t, "size: 5", "", "2", onServer), "robot", 5, "2", "",
		},
		"the turn from the client's side": {
			stored(t, "size: 5", two, "2", onClient), stored(t, "size: 5", two, "2", onServer), "kubectl", 5, "2", "",
		},
		"no size any more": {
			stored(t, "size: 5", "", "2", onServer),
			stored(t, "size: 1", "", "2", `{manager: kubectl, operation: Apply, fieldsV1: {f:spec: {}}}`), "kubectl", 5, "", "",
		},
		"no size any more, which another has": {
			stored(t, "size: 5", "", "2", onServer, ours), stored(t, "size: 5", "", "2", ours), "kubectl", 5, "", "",
		},
		"a size that a hand takes away": {
			stored(t, "size: 5", "", "2", onServer), stored(t, "size: 1", "", "2"), "kubectl-patch", 1, "2", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, follow := range []bool{false, true} {
				before, after := row.before.DeepCopy(), row.after.DeepCopy()
				size, say := row.size, row.say
				if follow {
					annotations := after.GetAnnotations()
					annotations[v1alpha1.AnnotationSizeEdits] = "Follow"
					after.SetAnnotations(annotations)
					if say != "" {
						size, say = sizeOf(row.after), ""
					}
				}
				warnings, err := SizeOfApplied(before, after, row.manager, Itself())
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(warnings, "; "); got != say {
					t.Errorf("follow %t: it says %q, not %q", follow, got, say)
				}
				if got := sizeOf(after); got != size {
					t.Errorf("follow %t: stored is %d, not %d", follow, got, size)
				}
				if got := after.GetAnnotations()[v1alpha1.AnnotationFileSize]; got != row.note {
					t.Errorf("follow %t: noted is %q, not %q", follow, got, row.note)
				}
				if diff := cmp.Diff(row.before.Object, before.Object); diff != "" {
					t.Errorf("what it was is changed:\n%s", diff)
				}
			}
			// Of one that was not managed nothing can have grown by request.
			before, after := row.before.DeepCopy(), row.after.DeepCopy()
			unstructured.RemoveNestedField(before.Object, "metadata", "annotations", v1alpha1.AnnotationNodePools)
			if warnings, err := SizeOfApplied(
				before, after, row.manager, Itself(),
			); err != nil || len(warnings) > 0 || sizeOf(after) != sizeOf(row.after) {
				t.Errorf("one that was not managed has %d, is told %q, %v", sizeOf(after), warnings, err)
			}
		})
	}
}

// TestSizeOfNew: the size in a file is noted, and a file without one begins with minSize.
func TestSizeOfNew(t *testing.T) {
	t.Parallel()
	const first = "spec.size: 2 is the size to begin with; a file that is applied again does not undo a growth: "
	for name, row := range map[string]struct {
		u         *unstructured.Unstructured
		size      int32
		note, say string
	}{
		"on the client's side":                 {stored(t, "size: 2", `{"spec":{"size":2}}`, "", onClient), 2, "2", first + wayOut},
		"on the server's side":                 {stored(t, "size: 2", "", "", onServer), 2, "2", first + wayOut},
		"without a size, on the client's side": {stored(t, "size: 1, minSize: 3", `{"spec":{"minSize":3}}`, "", onClient), 3, "", ""},
		"without a size, on the server's side": {
			stored(t, "size: 1, minSize: 3", "", "", `{manager: kubectl, operation: Apply, fieldsV1: {f:spec: {}}}`), 3, "", "",
		},
		"without a size or a minSize": {stored(t, "size: 1", `{"spec":{}}`, "", onClient), 1, "", ""},
		"a size below minSize, for others to refuse": {
			stored(t, "size: 2, minSize: 3", `{"spec":{"size":2}}`, "", onClient), 2, "2", first + wayOut,
		},
		"by no applier": {
			stored(t, "size: 1, minSize: 3", "", "", `{manager: kubectl-create, operation: Update, fieldsV1: {f:spec: {f:size: {}}}}`), 1, "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			warnings, err := SizeOfNew(row.u, Itself())
			if err != nil || strings.Join(warnings, "; ") != row.say {
				t.Errorf("it says %q, %v, not %q", warnings, err, row.say)
			}
			if got := sizeOf(row.u); got != row.size {
				t.Errorf("stored is %d, not %d", got, row.size)
			}
			if got := row.u.GetAnnotations()[v1alpha1.AnnotationFileSize]; got != row.note {
				t.Errorf("noted is %q, not %q", got, row.note)
			}
		})
	}
}
