package ensemble

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	autoscaling "github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/admission"
)

// FuzzReviews: whatever is sent to the webhook of Ensembles is answered, and it does not panic.
func FuzzReviews(f *testing.F) {
	scheme := runtime.NewScheme()
	if err := errors.Join(
		v1alpha1.AddToScheme(scheme), autoscaling.AddToScheme(scheme), corev1.AddToScheme(scheme), appsv1.AddToScheme(scheme),
	); err != nil {
		f.Fatal(err)
	}
	metrics, err := admission.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		f.Fatal(err)
	}
	reader := fake.NewClientBuilder().WithScheme(scheme).Build()
	hook := NewWebhook(scheme, Settings{Endpoint: "h:1"}, reader, &admission.Lookup{Cached: reader, Live: reader}, metrics)
	for _, spec := range []string{
		`{members: [{minicluster: {spec: ` + wide + `}}]}`,
		`{members: [{minicluster: {spec: ` + wide + `}, nodePools: [b, c], ensemble: "jobs: []", podsPerNode: 2}]}`,
		`{members: [{minicluster: null}]}`, `{members: {}}`, `null`,
	} {
		object, err := yaml.YAMLToJSON([]byte(`{apiVersion: ensemble.flux-framework.org/v1alpha1, kind: Ensemble, metadata: {name: e, namespace: ns}, spec: ` + spec + `}`))
		if err != nil {
			f.Fatal(err)
		}
		f.Add("CREATE", string(object), "null")
		f.Add("UPDATE", string(object), string(object))
	}
	f.Fuzz(func(t *testing.T, operation, object, before string) {
		review := admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{
			UID: "u", Name: "e", Namespace: "ns", Operation: admissionv1.Operation(operation),
			Object: runtime.RawExtension{Raw: []byte(object)}, OldObject: runtime.RawExtension{Raw: []byte(before)},
		}}
		review.APIVersion, review.Kind = admissionv1.SchemeGroupVersion.String(), "AdmissionReview"
		body, err := json.Marshal(review)
		if err != nil {
			return
		}
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		hook.ServeHTTP(answer, request)
		if answer.Body.Len() == 0 || strings.Contains(answer.Body.String(), "panic: ") {
			t.Errorf("%s is answered %d: %s", body, answer.Code, answer.Body)
		}
	})
}
