package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// stopWithin bounds how long the controller may take to end.
const stopWithin = 20 * time.Second

// admission is what is installed in the API server's admission. In this cluster all of it is ours.
type admission struct {
	objects   []client.Object
	installed bool
}

func readAdmission(ctx context.Context, c client.Client) (*admission, error) {
	a := &admission{installed: true}
	for _, list := range []client.ObjectList{
		&admissionregistrationv1.MutatingWebhookConfigurationList{}, &admissionregistrationv1.ValidatingWebhookConfigurationList{},
		&admissionregistrationv1.MutatingAdmissionPolicyList{}, &admissionregistrationv1.MutatingAdmissionPolicyBindingList{},
		&admissionregistrationv1.ValidatingAdmissionPolicyList{}, &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{},
	} {
		if err := c.List(ctx, list); err != nil {
			return nil, fmt.Errorf("read what is installed in admission: %w", err)
		}
		if meta.LenList(list) == 0 {
			return nil, fmt.Errorf("nothing of %T is installed in admission", list)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			object, is := item.DeepCopyObject().(client.Object)
			if !is {
				return fmt.Errorf("a list has an item of kind %T", item)
			}
			object.SetResourceVersion("")
			object.SetUID("")
			a.objects = append(a.objects, object)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return a, nil
}

// be installs everything or takes everything away, and waits until the API server does as it was told.
func (b *bench) be(ctx context.Context, installed bool) error {
	if b.admission.installed == installed {
		return nil
	}
	for _, object := range b.admission.objects {
		var err error
		if installed {
			copied, is := object.DeepCopyObject().(client.Object)
			if !is {
				return fmt.Errorf("copy the %T %s", object, object.GetName())
			}
			err = b.system.Client.Create(ctx, copied)
		} else {
			err = b.system.Client.Delete(ctx, object)
		}
		if err != nil {
			return fmt.Errorf("change what is installed in admission: %w", err)
		}
	}
	b.admission.installed = installed
	return harness.Poll(ctx, pollPeriod, patience, func() string { return b.admits(ctx, installed) })
}

// admits says what admission does otherwise than it should, by trials that leave nothing behind: one for policies that change
// something, one for those that refuse something, and one for webhooks, which has to move what the controller counts.
func (b *bench) admits(ctx context.Context, installed bool) string {
	trials, err := system.Objects([]byte(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: EnsembleMember
metadata: {name: trial, namespace: default}
spec: {size: 1, minSize: 1, maxSize: 1, nodePools: [trial]}
---
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: trial, namespace: default, annotations: {autoscaling.flux-framework.org/node-pools: trial}}
spec: {size: 1, containers: [{image: trial}]}
`))
	if err != nil {
		return err.Error()
	}
	pod := b.pod("trial", true)
	if err := b.system.Client.Create(ctx, pod, client.DryRunAll); err != nil {
		return err.Error()
	}
	if gated(pod) != installed {
		return fmt.Sprintf("a pod with our label is gated: %t", gated(pod))
	}
	before, err := b.reviews(ctx)
	if err != nil {
		return err.Error()
	}
	for _, trial := range trials {
		err := b.system.Client.Create(ctx, trial, client.DryRunAll)
		if refused := apierrors.IsForbidden(err) || apierrors.IsInvalid(err); refused != installed || (err != nil && !refused) {
			return fmt.Sprintf("a %s is answered %v", trial.GetKind(), err)
		}
	}
	after, err := b.reviews(ctx)
	if err != nil {
		return err.Error()
	}
	if (after > before) != installed {
		return fmt.Sprintf("for a MiniCluster the controller is asked %d times", after-before)
	}
	return ""
}

// reviewsMetric counts the objects that the API server had the controller look at, by webhook and answer.
const reviewsMetric = "ensemble_autoscaler_admission_reviews_total"

// reviews is how many objects the API server has had this process of the controller look at.
func (b *bench) reviews(ctx context.Context) (int, error) {
	text, err := b.system.Metrics(ctx, b.system.ControllerMetrics)
	if err != nil {
		return 0, fmt.Errorf("read the metrics of the controller: %w", err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, reviewsMetric+"{") {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
		if err != nil {
			return 0, fmt.Errorf("read the metrics of the controller: %w", err)
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, errors.New("the controller has no metric " + reviewsMetric)
	}
	return int(sum), nil
}

// run starts or stops the controller.
func (b *bench) run(ctx context.Context, running bool) error {
	switch {
	case b.system.Controller.Running() == running:
		return nil
	case running:
		return b.system.RestartController(ctx)
	default:
		return b.system.Controller.Stop(stopWithin)
	}
}
