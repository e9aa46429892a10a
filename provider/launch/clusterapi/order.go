package clusterapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Codes of the outcomes of a launch, beside launch.CodeNameTaken.
const (
	codeDomain      = "DomainUnknown"
	codeLabel       = "LabelReserved"
	codeForbidden   = "Forbidden"
	codeKindUnknown = "KindUnknown"
	codeNotFound    = "NotFound"
	codeNotWatched  = "NamespaceNotWatched"
	codeQuota       = "QuotaExceeded"
	codeRefused     = "Refused"
	codeThrottled   = "Throttled"
)

// throttledFor is how long is waited where the API server throttles and does not say.
const throttledFor = time.Second

// Launch implements launch.Launcher. What exists of a machine and its order is gone on from, so that a call that was cut short anywhere is
// completed by the next one.
func (l *Launcher) Launch(ctx context.Context, pool *launch.Pool, order *launch.Order) ([]launch.Outcome, error) {
	config, err := l.config(pool)
	if unwatched, ok := errors.AsType[*errNotWatched](err); ok {
		outcome := launch.Outcome{Kind: launch.Invalid, Code: codeNotWatched, Message: unwatched.Error()}
		return slices.Repeat([]launch.Outcome{outcome}, len(order.Machines)), nil
	}
	if err != nil {
		return nil, err
	}
	// That a template cannot be read concerns those machines alone that are not there yet.
	from, missing := l.readTemplates(ctx, config)
	if isNotFound(missing) || meta.IsNoMatchError(missing) {
		if err := l.clusterIsThere(ctx, config); err != nil {
			missing = fmt.Errorf("%s: %w", missing.Error(), err) // What is missing is no reason any more.
		}
	}
	outcomes := make([]launch.Outcome, len(order.Machines))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inParallel)
	for i, machine := range order.Machines {
		group.Go(func() error {
			outcome, err := l.launchOne(ctx, pool, order, machine, from, missing)
			if refusal, is := l.refusalOf(err); is {
				outcome, err = refusal, nil
			}
			outcomes[i] = outcome
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("launch order %s of NodePool %s: %w", order.Token, pool.Name, err)
	}
	return outcomes, nil
}

func (l *Launcher) launchOne(
	ctx context.Context, pool *launch.Pool, order *launch.Order, machine *v1alpha1.PoolMachine, from *templates, missing error,
) (launch.Outcome, error) {
	there, err := l.get(ctx, machineKind, pool.Machines.ClusterAPI.Namespace, machine.Name)
	switch {
	case err != nil:
		return launch.Outcome{}, err
	case there != nil && isOurs(pool, order, machine.Name, there):
		return accepted(there), nil
	case there != nil:
		return nameTaken(there), l.unmake(ctx, pool, order, machine.Name)
	case missing != nil:
		return launch.Outcome{}, missing
	}
	if key := reservedLabel(machine.Spec.Template.Labels); key != "" {
		return launch.Outcome{
			Kind: launch.Invalid, Code: codeLabel,
			Message: fmt.Sprintf("spec.template.labels[%s] of NodePool %s is a label by which Cluster API tells its own Machines apart: remove it",
				key, pool.Name),
		}, nil
	}
	failureDomain, problem := domainOf(pool.Machines.ClusterAPI, &machine.Spec.Template, order.Domain)
	if problem != "" {
		return launch.Outcome{
			Kind: launch.Invalid, Code: codeDomain,
			Message: fmt.Sprintf("the machines of NodePool %s are not in %s: %s", pool.Name, order.Domain, problem),
		}, nil
	}
	objects, err := from.objects(pool, order, machine, failureDomain)
	if err != nil {
		return launch.Outcome{}, err
	}
	for _, object := range objects {
		if there, err = l.make(ctx, object); err != nil {
			return launch.Outcome{}, err
		}
		if !isOurs(pool, order, machine.Name, there) {
			return nameTaken(there), l.unmake(ctx, pool, order, machine.Name)
		}
	}
	return accepted(there), nil // The Machine is the last.
}

// reservedLabel is a label of a pool's template that Cluster API gives a meaning to on a Machine, empty for none.
func reservedLabel(labels map[string]string) string {
	for _, key := range []string{
		labelCluster, "cluster.x-k8s.io/set-name", "cluster.x-k8s.io/deployment-name", "cluster.x-k8s.io/control-plane",
	} {
		if _, is := labels[key]; is {
			return key
		}
	}
	return ""
}

// make makes sure that there is an object of a name, and returns it. It looks first: whose kind cannot be read is never made.
func (l *Launcher) make(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	there, err := l.get(ctx, object.GroupVersionKind(), object.GetNamespace(), object.GetName())
	if err != nil || there != nil {
		return there, err
	}
	created := object.DeepCopy()
	err = l.client.Create(ctx, created)
	if refusesTaints(object, err) {
		created = object.DeepCopy()
		unstructured.RemoveNestedField(created.Object, "spec", "taints")
		err = l.client.Create(ctx, created)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
	}
	return created, nil
}

// refusesTaints reports whether a Machine was refused for its taints: Cluster API takes them with its feature gate
// MachineTaintPropagation alone (core/webhooks/admission/machine.go).
func refusesTaints(object *unstructured.Unstructured, err error) bool {
	_, has, _ := unstructured.NestedSlice(object.Object, "spec", "taints")
	return err != nil && has && strings.Contains(err.Error(), "spec.taints")
}

// unmake deletes the clones that an order has made for a machine whose name is taken: nothing is told to end for it later. Whatever has
// come to belong to a Machine goes with that.
func (l *Launcher) unmake(ctx context.Context, pool *launch.Pool, order *launch.Order, machine string) error {
	_, err := l.removeClones(ctx, pool, machine, func(clone metav1.Object) bool {
		return isOurs(pool, order, machine, clone) && metav1.GetControllerOf(clone) == nil
	})
	return err
}

// get is an object as the API server itself has it, nil where there is none.
func (l *Launcher) get(ctx context.Context, kind schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(kind)
	switch err := l.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, out); {
	case isNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get %s %s/%s: %w", kind.Kind, namespace, name, err)
	}
	return out, nil
}

// isNotFound reports whether an API server says that it has no object of a name. A server that does not serve the kind, or not in that
// version, has the same code for it, and so has whatever else answers where it was: that says nothing of an object.
func isNotFound(err error) bool {
	if !apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) ||
		strings.Contains(err.Error(), "could not find the requested resource") {
		return false
	}
	status, ok := errors.AsType[*apierrors.StatusError](err)
	return ok && status.ErrStatus.Details != nil && status.ErrStatus.Details.Name != ""
}

// errNoCluster is the error of a call about Machines of a Cluster that is not where the provider looks.
type errNoCluster struct{ host, namespace, name string }

func (e *errNoCluster) Error() string {
	return fmt.Sprintf("there is no Cluster %s/%s (spec.machines.clusterAPI) at %s, so nothing is taken to be gone there: is that the "+
		"cluster "+
		"that has the Machines (--machines-kubeconfig)?", e.namespace, e.name, e.host)
}

// clusterIsThere is nil where the Cluster of a pool's Machines is: that something of the pool is not there means something only then.
func (l *Launcher) clusterIsThere(ctx context.Context, config *v1alpha1.ClusterAPIMachines) error {
	there, err := l.get(ctx, clusterKind, config.Namespace, config.ClusterName)
	if (err == nil && there == nil) || meta.IsNoMatchError(err) {
		return &errNoCluster{l.host, config.Namespace, config.ClusterName}
	}
	return err
}

// remove deletes an object that is not being deleted, as it was when it was looked at.
func (l *Launcher) remove(ctx context.Context, object *unstructured.Unstructured) error {
	if object.GetDeletionTimestamp() != nil {
		return nil
	}
	uid, version := object.GetUID(), object.GetResourceVersion()
	err := l.client.Delete(ctx, object, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("delete %s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
	}
	return nil
}

func accepted(machine *unstructured.Unstructured) launch.Outcome {
	// What the infrastructure has told since is for listings: an order that is repeated has the outcome that it had.
	return launch.Outcome{Kind: launch.Accepted, Domain: machine.GetAnnotations()[annotationDomain]}
}

func nameTaken(there *unstructured.Unstructured) launch.Outcome {
	return launch.Outcome{
		Kind: launch.Invalid, Code: launch.CodeNameTaken,
		Message: fmt.Sprintf("there is a %s %s/%s that another order has made", there.GetKind(), there.GetNamespace(), there.GetName()),
	}
}

// refusalOf is the outcome of a machine that the API server will not make as it is asked for, or not now. It is false for an error that
// says nothing of the machine.
func (l *Launcher) refusalOf(err error) (launch.Outcome, bool) {
	if err == nil {
		return launch.Outcome{}, false
	}
	invalid := func(code, format string, arguments ...any) (launch.Outcome, bool) {
		return launch.Outcome{Kind: launch.Invalid, Code: code, Message: fmt.Sprintf(format, arguments...)}, true
	}
	if _, is := errors.AsType[*errNoCluster](err); is {
		return launch.Outcome{}, false
	}
	switch {
	case meta.IsNoMatchError(err):
		return invalid(codeKindUnknown, "%v: install the provider of Cluster API that brings the kind", err)
	case apierrors.IsTooManyRequests(err):
		return launch.Outcome{Kind: launch.Throttled, After: waitOf(err), Code: codeThrottled, Message: err.Error()}, true
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		return launch.Outcome{Kind: launch.OutOfResources, Code: codeQuota, Message: err.Error()}, true
	case apierrors.IsInvalid(err), strings.Contains(err.Error(), "denied the request"):
		return invalid(codeRefused, "%v", err)
	case apierrors.IsForbidden(err):
		return invalid(codeForbidden, "the provider lacks a right, which docs/cluster-api.md says how to give: %v", err)
	case isNotFound(err):
		return invalid(codeNotFound, "%v", err)
	}
	return launch.Outcome{}, false
}

// waitOf is how long an API server that throttles wants to be left alone.
func waitOf(err error) time.Duration {
	seconds, _ := apierrors.SuggestsClientDelay(err)
	return max(throttledFor, time.Duration(seconds)*time.Second)
}
