package resize

import (
	"context"
	"errors"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// giveSizes gives a workload other sizes, and returns it as it was written. Where it does not take them itself, and its Jobs do, they are
// recorded for these. The event of that brings the pass in which they are given them. What
// refuses them for another reason, as a policy of an administrator does, is not gone round.
func (r *Reconciler) giveSizes(ctx context.Context, w *member.Workload, change *member.Change) (client.Object, error) {
	// A write that leaves the object's own sizes as they are is taken by every object, and gives no Job another size.
	if w.Own == nil || !change.Sizes.Same(w.Own) {
		object, patch, err := w.SizePatch(change)
		if err != nil {
			return nil, err
		}
		if err := r.Client.Patch(ctx, object, patch); !w.Refuses(err) {
			return object, err
		}
	}
	object, patch, err := w.JobSizesPatch(change)
	if err != nil {
		return nil, err
	}
	return object, r.Client.Patch(ctx, object, patch)
}

// levelJobs gives the Jobs of workloads that do not take sizes themselves those that they are to have: after these were recorded, when a
// restart has made Jobs again as the workload has them, and when somebody else has given them others. Where a workload has come to take
// sizes since, it is given them.
func (r *Reconciler) levelJobs(ctx context.Context, seen *seen) []error {
	var due []*entry
	for _, e := range seen.entries {
		if e.skip || e.member == nil || e.workload == nil || !e.workload.Managed() || e.workload.Own == nil {
			continue
		}
		if e.invalid == nil && e.lives() && !e.life().Finished {
			due = append(due, e)
		}
	}
	return inParallel(len(due), func(i int) error { return r.level(ctx, due[i]) })
}

// level does so for one workload.
func (r *Reconciler) level(ctx context.Context, e *entry) error {
	sizes := map[*batchv1.Job]int32{}
	for i := range e.groups {
		g := &e.groups[i]
		of := e.workload.Group(g.name)
		for _, job := range g.jobs {
			size, differs := e.workload.JobSize(job, of)
			if differs && job.DeletionTimestamp == nil && !finished(job) {
				sizes[job] = size
			}
		}
	}
	if len(sizes) == 0 {
		return nil
	}
	if wanted := member.To(e.workload.Sizes()); !wanted.Sizes.Same(e.workload.Own) {
		object, patch, err := e.workload.SizePatch(wanted)
		if err != nil {
			return err
		}
		err = r.Client.Patch(ctx, object, patch)
		if err == nil {
			r.writes.note(e.workloadWritten(), object)
			return nil
		}
		if !e.workload.Refuses(err) {
			return fmt.Errorf("resize %s %s: %w", e.kind.Words().Kind, e.workload.Key, err)
		}
	}
	var failures []error
	for job, size := range sizes {
		object, patch, err := member.JobPatch(job, size)
		if err == nil {
			err = r.Client.Patch(ctx, object, patch)
		}
		if err != nil {
			failures = append(
				failures,
				fmt.Errorf("resize Job %s/%s of %s %s: %w", job.Namespace, job.Name, e.kind.Words().Kind, e.workload.Key.Name, err),
			)
		}
	}
	return errors.Join(failures...)
}
