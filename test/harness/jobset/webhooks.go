package jobset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// jobSetName is the label of the pods of JobSets.
const jobSetName = "jobset.sigs.k8s.io/jobset-name"

// parseWebhooks reads the two configurations of a file.
func parseWebhooks(text []byte) (
	mutating *admissionregistrationv1.MutatingWebhookConfiguration,
	validating *admissionregistrationv1.ValidatingWebhookConfiguration,
	err error,
) {
	mutating, validating = &admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			switch object.GetKind() {
			case "MutatingWebhookConfiguration":
				err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, mutating)
			case "ValidatingWebhookConfiguration":
				err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, validating)
			}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("parse the webhooks of JobSet: %w", err)
		}
	}
	if len(mutating.Webhooks) == 0 || len(validating.Webhooks) == 0 {
		return nil, nil, errors.New("the file has no webhooks of both kinds")
	}
	return mutating, validating, nil
}

// selectorOf selects the pods of JobSets where the rules are about pods, and everything else otherwise.
func selectorOf(rules []admissionregistrationv1.RuleWithOperations) *metav1.LabelSelector {
	pods := slices.ContainsFunc(rules, func(rule admissionregistrationv1.RuleWithOperations) bool {
		return slices.Contains(rule.Resources, "pods")
	})
	if !pods {
		return nil
	}
	return &metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: jobSetName, Operator: metav1.LabelSelectorOpExists}},
	}
}
