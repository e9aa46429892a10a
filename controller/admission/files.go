package admission

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// file is what a file that is being applied says of the size.
type file struct {
	// size is its spec.size, nil where it leaves that out.
	size *int32
}

// The fields of a MiniCluster whose owners tell who applies a file. This is how the API server writes them in managedFields.
var (
	ownedSize        = []string{"f:spec", "f:size"}
	ownedLastApplied = []string{"f:metadata", "f:annotations", "f:" + corev1.LastAppliedConfigAnnotation}
)

// clientSide is the field manager of kubectl apply without --server-side. All other field managers of kubectl that write
// last-applied-configuration, kubectl edit among them, are somebody's hand.
const clientSide = "kubectl-client-side-apply"

// created is the file that a MiniCluster is created from, nil where it comes from no applier.
func created(u *unstructured.Unstructured) *file {
	entries := u.GetManagedFields()
	if i := slices.IndexFunc(entries, isApply); i >= 0 {
		if owns(&entries[i], ownedSize) {
			return &file{sizeIn(u)}
		}
		return &file{}
	}
	said, has := lastApplied(u)
	if !has {
		return nil
	}
	return &file{said}
}

// applied is the file whose application an update is, nil where the update is something else: an edit by hand, a patch, a write of the
// controller. manager is the field manager of the request.
//
// Which it is shows in managedFields. A write that changes the size takes its field from all other managers: so it was applied on the
// server's side if an entry of the operation Apply has the field, and on the client's side if the entry that has it is that of
// who wrote last-applied-configuration.
func applied(before, after *unstructured.Unstructured, manager string) *file {
	was, is := before.GetManagedFields(), after.GetManagedFields()
	owner := slices.IndexFunc(is, func(e metav1.ManagedFieldsEntry) bool { return owns(&e, ownedSize) })
	onServer := slices.IndexFunc(is, func(e metav1.ManagedFieldsEntry) bool { return isApply(e) && owns(&e, ownedSize) })
	resized := sizeOf(before) != sizeOf(after)
	switch {
	case resized && onServer >= 0:
		return &file{sizeIn(after)}
	case !resized && onServer >= 0 && is[onServer].Manager == manager && sameUpdates(was, is):
		// The file says the size that the MiniCluster has, or was changed elsewhere.
		return &file{sizeIn(after)}
	case (!resized || owner < 0) && manager != "" && leftOut(was, is, manager):
		return &file{}
	}
	said, has := lastApplied(after)
	if !has {
		return nil
	}
	if before.GetAnnotations()[corev1.LastAppliedConfigAnnotation] != after.GetAnnotations()[corev1.LastAppliedConfigAnnotation] {
		if writer := writerOf(is); writer == "" || byHand(writer) {
			return nil
		}
		return &file{said}
	}
	// What is in the annotation was written before. So the file was not changed if the size goes back to what it says by the hand of who
	// wrote that, or by kubectl apply, which does not write it again where another has.
	if resized && owner >= 0 && said != nil && *said == sizeOf(after) &&
		(is[owner].Manager == clientSide || (owns(&is[owner], ownedLastApplied) && !byHand(is[owner].Manager))) {
		return &file{said}
	}
	return nil
}

// writerOf is the field manager who wrote last-applied-configuration, empty where nobody knows.
func writerOf(entries []metav1.ManagedFieldsEntry) string {
	i := slices.IndexFunc(entries, func(e metav1.ManagedFieldsEntry) bool { return owns(&e, ownedLastApplied) })
	if i < 0 {
		return ""
	}
	return entries[i].Manager
}

// leftOut reports whether a manager has applied a file on the server's side that does not say the size any more.
func leftOut(was, is []metav1.ManagedFieldsEntry, manager string) bool {
	owned := func(entries []metav1.ManagedFieldsEntry) bool {
		return slices.ContainsFunc(entries, func(e metav1.ManagedFieldsEntry) bool {
			return isApply(e) && e.Manager == manager && owns(&e, ownedSize)
		})
	}
	return owned(was) && !owned(is)
}

// sameUpdates reports whether what is owned by writes other than by applying on the server's side is what it was: what kubectl and
// others do when they turn from the client's side to the server's changes it, and is no file that is applied.
func sameUpdates(was, is []metav1.ManagedFieldsEntry) bool {
	updates := func(entries []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
		return slices.DeleteFunc(slices.Clone(entries), isApply)
	}
	return slices.EqualFunc(updates(was), updates(is), func(a, b metav1.ManagedFieldsEntry) bool {
		return a.Manager == b.Manager && a.Subresource == b.Subresource && a.FieldsV1 != nil && b.FieldsV1 != nil &&
			a.FieldsV1.GetRawString() == b.FieldsV1.GetRawString()
	})
}

func isApply(e metav1.ManagedFieldsEntry) bool {
	return e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == ""
}

// byHand reports whether a field manager of kubectl is another than that of kubectl apply.
func byHand(manager string) bool {
	return strings.HasPrefix(manager, "kubectl-") && manager != clientSide && manager != "kubectl-last-applied"
}

// owns reports whether a manager owns a field of the object itself, not through a subresource.
func owns(e *metav1.ManagedFieldsEntry, path []string) bool {
	if e.FieldsV1 == nil || e.Subresource != "" {
		return false
	}
	raw := e.FieldsV1.GetRawBytes()
	for _, name := range path {
		var fields map[string]json.RawMessage
		if json.Unmarshal(raw, &fields) != nil {
			return false
		}
		inner, has := fields[name]
		if !has {
			return false
		}
		raw = inner
	}
	return true
}

// lastApplied is the size in the annotation that kubectl apply writes, nil where the file has none, and whether there is such an
// annotation of a MiniCluster.
func lastApplied(u *unstructured.Unstructured) (size *int32, has bool) {
	text, has := u.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	if !has {
		return nil, false
	}
	var object struct {
		Spec struct {
			Size *int32 `json:"size"`
		} `json:"spec"`
	}
	if json.Unmarshal([]byte(text), &object) != nil {
		return nil, false
	}
	return object.Spec.Size, true
}

// sizeIn is spec.size, nil where there is none.
func sizeIn(u *unstructured.Unstructured) *int32 {
	size, has, err := unstructured.NestedInt64(u.Object, "spec", "size")
	if !has || err != nil {
		return nil
	}
	small := int32(size) //nolint:gosec // The definition of the MiniCluster has an int32.
	return &small
}

// sizeOf is spec.size, where nothing is 1, as the Flux Operator has it.
func sizeOf(u *unstructured.Unstructured) int32 {
	if size := sizeIn(u); size != nil {
		return *size
	}
	return 1
}

// noted is the size of the file that was applied last, as far as it is known: by our annotation, or, of a MiniCluster from before that
// was written, by that of kubectl apply.
func noted(u *unstructured.Unstructured) (size int32, known bool) {
	if text, has := u.GetAnnotations()[v1alpha1.AnnotationFileSize]; has {
		number, err := strconv.ParseInt(text, 10, 32)
		return int32(number), err == nil
	}
	said, has := lastApplied(u)
	writer := writerOf(u.GetManagedFields())
	if !has || said == nil || writer == "" || byHand(writer) {
		return 0, false
	}
	return *said, true
}

// follows reports whether the user wants the size in files to be followed.
func follows(u *unstructured.Unstructured) bool {
	return u.GetAnnotations()[v1alpha1.AnnotationSizeEdits] == member.SizeEditsFollow
}

// wayOut is what a user can do who does not want what becomes of the size in files.
var wayOut = fmt.Sprintf(
	"leave spec.size out of the file, or have the annotation %s: %s, with which the file is followed", v1alpha1.AnnotationSizeEdits,
	member.SizeEditsFollow,
)

// SizeOfNew notes the size in the file that a MiniCluster is created from. A file that leaves the size out begins with minSize: a size
// below that the Flux Operator ignores without a sign.
func SizeOfNew(u *unstructured.Unstructured, at Place) (warnings []string, err error) {
	said := created(u)
	if said == nil {
		return nil, nil
	}
	if err := said.note(u); err != nil {
		return nil, err
	}
	f := &Findings{}
	if said.size != nil {
		if !follows(u) {
			f.warn(
				at.Spec.Child("size"), "%d is the size to begin with; a file that is applied again does not undo a growth: %s", *said.size, wayOut,
			)
		}
		return f.Warnings, nil
	}
	least, has, err := unstructured.NestedInt64(u.Object, "spec", "minSize")
	if err != nil || !has || least <= int64(sizeOf(u)) {
		// A minSize that is no number is refused elsewhere.
		return nil, nil //nolint:nilerr // See above.
	}
	return nil, setSize(u, least)
}

// SizeOfApplied says what becomes of spec.size where a file is applied to a MiniCluster: what is in the file is followed where it was
// changed there, and not where that would undo what was done since. manager is the field manager of the request. A size that is not
// followed is set to what it was, in the object that is about to be stored: no broker leaves, not even for a moment.
func SizeOfApplied(before, after *unstructured.Unstructured, manager string, at Place) (warnings []string, err error) {
	said := applied(before, after, manager)
	if said == nil {
		return nil, nil
	}
	if err := said.note(after); err != nil {
		return nil, err
	}
	if !member.Managed(before) {
		return nil, nil
	}
	was, is := sizeOf(before), sizeOf(after)
	if was == is {
		return nil, nil
	}
	f, path := &Findings{}, at.Spec.Child("size")
	last, known := noted(before)
	switch {
	case said.size == nil:
		// What a file leaves out it does not change; 1 is what the definition of the MiniCluster puts there.
	case follows(after):
		return nil, nil
	case known && *said.size == last:
		f.keep(path, was, *said.size, "that was not changed in the file, so what was done since stays")
	case *said.size < was && (!known || was > last):
		f.keep(path, was, *said.size, "a file that is applied does not take back what the MiniCluster has grown by")
	default:
		return nil, nil
	}
	return f.Warnings, setSize(after, int64(was))
}

func (f *Findings) keep(at *field.Path, was, said int32, why string) {
	f.warn(at, "stays %d, and the file says %d: %s; %s", was, said, why, wayOut)
}

func setSize(u *unstructured.Unstructured, size int64) error {
	if err := unstructured.SetNestedField(u.Object, size, "spec", "size"); err != nil {
		return fmt.Errorf("set spec.size: %w", err)
	}
	return nil
}

// note writes into a MiniCluster which size the file says.
func (said *file) note(u *unstructured.Unstructured) error {
	if said.size == nil {
		unstructured.RemoveNestedField(u.Object, "metadata", "annotations", v1alpha1.AnnotationFileSize)
		return nil
	}
	if err := unstructured.SetNestedField(
		u.Object, strconv.Itoa(int(*said.size)), "metadata", "annotations", v1alpha1.AnnotationFileSize,
	); err != nil {
		return fmt.Errorf("note the size in the file: %w", err)
	}
	return nil
}
