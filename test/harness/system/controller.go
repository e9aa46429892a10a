package system

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

func (s *System) startController(ctx context.Context) (err error) {
	kubeconfig, err := s.serviceAccount(ctx, Namespace, "controller")
	if err != nil {
		return err
	}
	if s.EndpointAddress, err = s.address(); err != nil {
		return err
	}
	if s.ControllerProbes, err = s.address(); err != nil {
		return err
	}
	if s.ControllerMetrics, err = s.address(); err != nil {
		return err
	}
	if s.WebhookAddress, err = s.address(); err != nil {
		return err
	}
	if err := s.directWebhooks(ctx, s.WebhookAddress); err != nil {
		return err
	}
	s.Controller, err = s.Plane.Run("controller", exec.Command(s.programs.controller, append(append(s.commonFlags(
		kubeconfig, s.EndpointAddress, s.ControllerProbes, s.ControllerMetrics,
	),
		"--namespace="+Namespace, "--tls-extra-names=127.0.0.1", "--webhook-address="+s.WebhookAddress), s.options.ControllerFlags...)...))
	return err
}

// directWebhooks has the API server call the webhooks at an address of this machine in place of the Service, which has no
// pods here.
func (s *System) directWebhooks(ctx context.Context, address string) error {
	direct := func(config *admissionregistrationv1.WebhookClientConfig) {
		if config.Service != nil && config.Service.Path != nil {
			config.URL, config.Service = new("https://"+address+*config.Service.Path), nil
		}
	}
	var validating admissionregistrationv1.ValidatingWebhookConfigurationList
	var mutating admissionregistrationv1.MutatingWebhookConfigurationList
	if err := errors.Join(s.Client.List(ctx, &validating), s.Client.List(ctx, &mutating)); err != nil {
		return fmt.Errorf("read the configurations of the webhooks: %w", err)
	}
	var configurations []client.Object
	for i := range validating.Items {
		for j := range validating.Items[i].Webhooks {
			direct(&validating.Items[i].Webhooks[j].ClientConfig)
		}
		configurations = append(configurations, &validating.Items[i])
	}
	for i := range mutating.Items {
		for j := range mutating.Items[i].Webhooks {
			direct(&mutating.Items[i].Webhooks[j].ClientConfig)
		}
		configurations = append(configurations, &mutating.Items[i])
	}
	for _, configuration := range configurations {
		if !strings.HasPrefix(configuration.GetName(), "ensemble-autoscaler") {
			continue
		}
		if err := s.Client.Update(ctx, configuration); err != nil {
			return fmt.Errorf("direct the webhooks of %s to %s: %w", configuration.GetName(), address, err)
		}
	}
	return nil
}

// NotAnswered reports whether a write failed because no webhook answered: the controller has just been started, or killed.
func NotAnswered(err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed calling webhook")
}

// podTrial is a pod that the webhook is asked about.
func podTrial() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"name": "trial", "namespace": "default", "labels": map[string]any{v1alpha1.LabelMember: "trial"},
			"ownerReferences": []any{map[string]any{"apiVersion": "batch/v1", "kind": "Job", "name": "trial", "uid": "trial", "controller": true}},
		},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "trial", "image": "trial"}}},
	}}
}

// admits waits until the webhooks answer, by trials that leave nothing behind.
func (s *System) admits(ctx context.Context) error {
	trials, err := Objects([]byte(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: trial}
spec: {maxSize: 1, template: {capacity: {cpu: "1", memory: 1Gi, pods: "1"}}, machines: {kwok: {}}}
---
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: trial, namespace: default, annotations: {autoscaling.flux-framework.org/node-pools: trial}}
spec: {size: 1, containers: [{image: trial}]}
`))
	if err != nil {
		return err
	}
	if s.options.PodWebhook {
		trials = append(trials, podTrial())
	}
	for _, trial := range trials {
		var last error
		if err := wait.PollUntilContextTimeout(ctx, readyPoll, readyWithin, true, func(ctx context.Context) (bool, error) {
			last = s.Client.Create(ctx, trial.DeepCopy(), client.DryRunAll)
			if trial.GetKind() == "Pod" {
				// Before any webhook is asked a pod is refused for want of its ServiceAccount, which comes a little after the namespace.
				return last == nil, nil
			}
			// An answer is an answer, also when it is a refusal.
			return !NotAnswered(last), nil
		}); err != nil {
			return fmt.Errorf("the webhooks did not answer within %s: %w", readyWithin, errors.Join(err, last))
		}
	}
	return nil
}
