package member

import (
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// JobSizer is a kind whose objects may refuse to be given other sizes, where their Indexed Jobs take them. The sizes are then recorded in
// v1alpha1.AnnotationJobSizes of the object, and the controller gives them to the Jobs.
type JobSizer interface {
	Kind
	// JobSize is the number of pods of each Job of a group: its parallelism and its completions.
	JobSize(group *Group) int32
	// Refuses reports whether an error of a write of sizes says that the objects of the kind do not take others. Whoever else refuses the
	// write, and for whatever other reason, does not want the Jobs to have them either.
	Refuses(err error) bool
}

// Refuses reports whether an error of a write of sizes says that the workload does not take others, where its Jobs do.
func (w *Workload) Refuses(err error) bool {
	kind, is := w.Kind.(JobSizer)
	return is && kind.Refuses(err)
}

// JobSizesPatch records the sizes that the Jobs of a workload are to have, and that they are the controller's, in one write. It fails with
// a conflict when somebody else has written since the workload was read.
func (w *Workload) JobSizesPatch(change *Change) (object client.Object, patch client.Patch, err error) {
	sizes := change.Sizes.String()
	return w.patch(types.MergePatchType, map[string]any{
		"metadata": map[string]any{
			"resourceVersion": w.ResourceVersion,
			"annotations":     map[string]any{v1alpha1.AnnotationAppliedSize: sizes, v1alpha1.AnnotationJobSizes: sizes},
		},
	})
}

// JobSize is the number of pods that a Job of a group is to have, and whether it has another one.
func (w *Workload) JobSize(job *batchv1.Job, group *Group) (size int32, differs bool) {
	kind, is := w.Kind.(JobSizer)
	if !is {
		return 0, false
	}
	size = kind.JobSize(group)
	return size, ptr.Deref(job.Spec.Parallelism, 1) != size || ptr.Deref(job.Spec.Completions, size) != size
}

// JobPatch gives a Job a number of pods. It fails with a conflict when the Job has changed since it was read. The API server takes a change
// of completions only together with the same of parallelism.
func JobPatch(job *batchv1.Job, size int32) (object client.Object, patch client.Patch, err error) {
	encoded, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": job.ResourceVersion},
		"spec":     map[string]any{"parallelism": size, "completions": size},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("encode the patch of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name}},
		client.RawPatch(types.MergePatchType, encoded), nil
}
